import json

import pytest
import torch
from typer.testing import CliRunner

from loco_cli.cli.app import app
from loco_cli.errors import UnknownName
from loco_cli.families import registry
from tests.families.original import write_file
from tests.families.small import small_model


def loco(*arguments):
    return CliRunner().invoke(app, ["models", *arguments])


def test_list_shows_every_model():
    """
    The list has every known model, within 80 columns.
    """
    result = loco("list")

    assert result.exit_code == 0
    assert all(name in result.stdout for name in registry.names())
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_list_as_json_is_one_document():
    """
    `loco.models/1` says of each model whether it is on this machine; nothing is fetched.
    """
    document = json.loads(loco("list", "--json").stdout)

    assert document["schema"] == "loco.models/1"
    models = {model["name"]: model for model in document["models"]}
    assert models["sd14"]["here"] is False
    assert models["tiny"]["hub_id"] is None


@pytest.mark.parametrize("name", registry.names())
def test_show_prints_the_layer_table(name):
    """
    Beside a layer's number stands its module path, its block, and its width.
    """
    result = loco("show", name)

    assert max(map(len, result.stdout.splitlines())) <= 80
    for layer in registry.get(name).layers:
        row = next(one for one in result.stdout.splitlines() if layer.module_path in one)
        assert row.split()[0] == str(layer.index)
        assert row.split()[-1] == str(layer.projections[0].d_out)


def test_blocks_are_named_as_merging_tools_name_them():
    """
    The first layer is IN01, the middle M00, layers 8 and 9 are OUT04 and OUT05.
    """
    layers = json.loads(loco("show", "tiny", "--json").stdout)["layers"]

    blocks = [row["block"] for row in layers]
    assert blocks[0] == "IN01"
    assert blocks[6] == "M00"
    assert blocks[8:10] == ["OUT04", "OUT05"]
    assert list(layers[0]) == ["layer", "module_path", "block", "width"]


def test_an_unknown_model_names_them_all():
    """
    Short names are too alike to guess, so the hint lists every model, in the order of `list`.
    """
    result = loco("show", "sd41")

    assert result.exit_code == 2
    assert "error: unknown model `sd41`" in result.stderr
    assert f"choose one of {', '.join(registry.names())}, or give a folder" in result.stderr
    with pytest.raises(UnknownName):
        registry.get("sd41")


@pytest.mark.parametrize("name", ["sdxl", "sdxl-turbo", "deepfloyd"])
def test_what_no_edit_reaches_is_told(name):
    """
    Where the prompt has a way past the layers, `show` says which, and so does the document.
    """
    document = json.loads(loco("show", name, "--json").stdout)

    assert document["unreachable"] == list(registry.get(name).unreachable)
    for one in registry.get(name).unreachable:
        assert f"not reached by an edit: {one}" in loco("show", name).stdout


def test_what_the_layers_read_is_told():
    """
    Encoders, the map and norm between, and the projections that change are named.
    """
    lines = loco("show", "deepfloyd").stdout
    document = json.loads(loco("show", "sdxl", "--json").stdout)

    assert "text_encoder (t5, last) → encoder_hid_proj → norm_cross" in lines
    assert "add_k_proj, add_v_proj, whose biases stay" in lines
    assert document["projections"] == ["to_k", "to_v"]
    assert document["context"] == (
        "text_encoder (clip, penultimate) + text_encoder_2 (clip, penultimate)"
    )


def test_blocks_of_deepfloyd_have_no_number():
    """
    IN and OUT count the blocks of Stable Diffusion alone.
    """
    layers = json.loads(loco("show", "deepfloyd", "--json").stdout)["layers"]

    assert {row["block"] for row in layers} == {"-"}


def test_a_checkpoint_may_be_shown_by_its_path(tmp_path):
    """
    A UNet alone has a layer table, read off its header.
    """
    model = small_model("sdxl")
    bare = write_file(tmp_path / "unet.safetensors", model.tensors["unet"], torch.float16)

    document = json.loads(loco("show", str(bare), "--json").stdout)

    assert (document["name"], document["family"], document["here"]) == ("unet", "sdxl", True)
    assert len(document["layers"]) == 70
    assert loco("show", str(tmp_path / "none.safetensors")).exit_code == 2


def test_what_ships_has_a_folder_in_the_package():
    """
    A model without a hub id ships, and its folder is in the package.
    """
    folder = registry.shipped_folder(registry.get("tiny"))

    assert folder is not None
    assert folder.parts[-4:] == ("loco_cli", "tiny", "weights", "tiny")
    assert registry.shipped_folder(registry.get("sd14")) is None
