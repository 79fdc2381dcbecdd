"""`loco models` on the command line."""

import json

import torch

from loco_cli.families import registry
from tests.families.original import write_file
from tests.families.small import small_model


def test_list(loco):
    """
    The list has every known model, within 80 columns.
    """
    result = loco("models", "list")

    assert result.exit_code == 0
    assert all(name in result.stdout for name in registry.names())
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_list_as_json(loco):
    """
    `loco.models/1` shows which models are on this machine, without the network.
    """
    document = json.loads(loco("models", "list", "--json").stdout)

    assert document["schema"] == "loco.models/1"
    models = {model["name"]: model for model in document["models"]}
    assert models["sd14"]["here"] is False
    assert models["tiny"]["hub_id"] is None


def test_layer_tables(loco):
    """
    Each layer has its module path, its block and its width.
    """
    for name in registry.names():
        lines = loco("models", "show", name).stdout.splitlines()
        assert max(map(len, lines)) <= 80, name
        for layer in registry.get(name).layers:
            row = next(one for one in lines if layer.module_path in one)
            assert row.split()[0] == str(layer.index), name
            assert row.split()[-1] == str(layer.projections[0].d_out), name


def test_block_labels(loco):
    """
    Blocks have the labels of merging tools: IN01, M00, OUT04.
    """
    layers = json.loads(loco("models", "show", "tiny", "--json").stdout)["layers"]

    blocks = [row["block"] for row in layers]
    assert blocks[0] == "IN01"
    assert blocks[6] == "M00"
    assert blocks[8:10] == ["OUT04", "OUT05"]
    assert list(layers[0]) == ["layer", "module_path", "block", "width"]


def test_unknown_model(refused):
    """
    The hint lists all models, since their names are too similar for a guess.
    """
    refused("models", "show", "sd41", exit_code=2, names=["sd41", ", ".join(registry.names())])


def test_unreachable_parts(loco):
    """
    `show` and its document list the parts of the prompt that bypass the layers.
    """
    for name in ("sdxl", "sdxl-turbo", "deepfloyd"):
        shown = loco("models", "show", name).stdout
        document = json.loads(loco("models", "show", name, "--json").stdout)
        assert document["unreachable"] == list(registry.get(name).unreachable)
        for part in registry.get(name).unreachable:
            assert f"not edited: {part}" in shown


def test_context_and_projections(loco):
    """
    `show` names the text encoders, shared maps, and edited projections.
    """
    lines = loco("models", "show", "deepfloyd").stdout
    document = json.loads(loco("models", "show", "sdxl", "--json").stdout)

    assert "text_encoder (t5, last) → encoder_hid_proj → norm_cross" in lines
    assert "add_k_proj, add_v_proj (without biases)" in lines
    assert document["projections"] == ["to_k", "to_v"]
    assert document["context"] == (
        "text_encoder (clip, penultimate) + text_encoder_2 (clip, penultimate)"
    )


def test_blocks_of_deepfloyd(loco):
    """
    Block labels exist only for Stable Diffusion.
    """
    layers = json.loads(loco("models", "show", "deepfloyd", "--json").stdout)["layers"]

    assert {row["block"] for row in layers} == {"-"}


def test_path_of_a_checkpoint(loco, tmp_path):
    """
    A UNet file has a layer table, read from its header.
    """
    model = small_model("sdxl")
    bare = write_file(tmp_path / "unet.safetensors", model.tensors["unet"], torch.float16)

    document = json.loads(loco("models", "show", str(bare), "--json").stdout)

    assert (document["name"], document["family"], document["here"]) == ("unet", "sdxl", True)
    assert len(document["layers"]) == 70
    assert loco("models", "show", str(tmp_path / "none.safetensors")).exit_code == 2


def test_shipped_model():
    """
    A model without a hub id has its folder in the package.
    """
    folder = registry.shipped_folder(registry.get("tiny"))

    assert folder is not None
    assert folder.parts[-4:] == ("loco_cli", "tiny", "weights", "tiny")
    assert registry.shipped_folder(registry.get("sd14")) is None
