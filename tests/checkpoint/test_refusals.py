"""The refusal of files that are not models, or that cannot be edited."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from loco_cli.checkpoint.layout import open_checkpoint
from loco_cli.errors import CheckpointError, RequestError
from tests.checkpoints import K_ORIGINAL, K, write_folder, write_single_file

TEXT_MODEL = "cond_stage_model.transformer.text_model"


@pytest.fixture
def refused(golden):
    """Check that a path is refused in one line that contains each of `names`."""

    def open_refused(path, *names):
        with golden.raises(CheckpointError, path.name, *names):
            open_checkpoint(path)

    return open_refused


def test_refuses_a_missing_path(tmp_path, golden):
    """
    A path that does not exist is a wrong request.
    """
    with golden.raises(RequestError, "nothing"):
        open_checkpoint(tmp_path / "nothing")


def test_refuses_folders_that_are_not_models(weights, tmp_path, refused):
    """
    An empty folder, one without weights and one without a UNet are refused.
    """
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("a")
    vae_only = write_folder(tmp_path / "vae", [w for w in weights if w.component == "vae"])
    for part in ("unet", "text_encoder"):
        shutil.rmtree(vae_only / part)

    for path in (tmp_path / "empty", tmp_path / "notes", vae_only):
        refused(path)


def test_refuses_pickles(weights, tmp_path, refused):
    """
    A base that is a pickle is refused with a way out, and is not opened.
    """
    (tmp_path / "model.ckpt").write_bytes(b"\x80\x02cos\nsystem\n")
    root = write_folder(tmp_path / "pickled", weights)
    (root / "unet/diffusion_pytorch_model.safetensors").rename(
        root / "unet/diffusion_pytorch_model.bin"
    )

    for path in (tmp_path / "model.ckpt", root):
        refused(path, "pickle", "safetensors.torch.save_file")


OTHER_FILES = {
    "LoRA": {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": (1, 8)},
    "ControlNet": {"control_model.input_blocks.0.0.weight": (8, 4, 3, 3)},
    "VAE": {"first_stage_model.decoder.conv_in.weight": (8, 4, 3, 3)},
    "text encoder": {"text_model.final_layer_norm.weight": (8,)},
    "SD 3": {"model.joint_blocks.0.x.weight": (8, 8)},
    "not a model": {"conv1.weight": (8, 3, 7, 7)},
    "unknown": {"down_blocks.0.a.attn2.to_k.weight": (8, 8), "up_blocks.0.a": (1,)},
    "no tensors": {},
}


def test_recognises_other_files(tmp_path, refused):
    """
    A file that is not a model is refused by its kind; an unknown one never passes for SD 1.
    """
    for kind, shapes in OTHER_FILES.items():
        path = tmp_path / "other.safetensors"
        save_file({name: np.ones(shape, np.float16) for name, shape in shapes.items()}, path)

        refused(path, kind)


def test_refuses_dtypes_that_are_not_edited(weights, tmp_path, refused):
    """
    A model is refused if one bias is quantised, or as float64, which is not called quantised.
    """
    path = tmp_path / "dtype.safetensors"
    for name, dtype, label in (
        (K_ORIGINAL, torch.float8_e4m3fn, "F8_E4M3"),
        ("model.diffusion_model.input_blocks.0.0.bias", torch.float8_e4m3fn, "F8_E4M3"),
        (f"{TEXT_MODEL}.final_layer_norm.bias", torch.float8_e4m3fn, "F8_E4M3"),
        (K_ORIGINAL, torch.float64, "F64"),
    ):
        changed = {w.original: torch.from_numpy(w.value) for w in weights}
        changed[name] = changed[name].to(dtype)
        save_torch(changed, path)

        refused(path, f"`{name}` is {label}")


def test_refuses_an_ema_copy_without_its_tensor(tensors, tmp_path, refused):
    """
    An averaged copy needs its tensor, because an edit would miss the copy otherwise.
    """
    ema = {f"model_ema.{name.removeprefix('model.').replace('.', '')}" for name in tensors}
    alone = {name: np.ones((1,), np.float16) for name in ema}
    save_file(alone, tmp_path / "alone.safetensors")
    stray = "model_ema.diffusion_modelinput_blocks991transformer_blocks0attn2to_kweight"
    save_file({**tensors, stray: tensors[K_ORIGINAL]}, tmp_path / "stray.safetensors")

    refused(tmp_path / "alone.safetensors")
    refused(tmp_path / "stray.safetensors", stray)


def test_refuses_a_folder_of_models(weights, tmp_path, refused):
    """
    Several models in one folder are refused; variants of one model are accepted.
    """
    for name in ("dreams", "photos"):
        write_single_file(tmp_path / f"{name}.safetensors", weights)

    refused(tmp_path, "dreams.safetensors", "photos.safetensors")
    (tmp_path / "photos.safetensors").rename(tmp_path / "dreams.fp16.safetensors")
    assert len(open_checkpoint(tmp_path).slots("unet", K)) == 2


def test_refuses_a_text_encoder_that_does_not_fit(tensors, tmp_path, refused):
    """
    The width of a text encoder is that of the UNet, and OpenCLIP's fused rows are thirds.
    """
    width = f"{TEXT_MODEL}.embeddings.token_embedding.weight"
    rows = "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight"
    for name, shape, *shown in ((width, (20, 24), "24", "12"), (rows, (4, 3), rows)):
        save_file({**tensors, name: np.zeros(shape, np.float16)}, tmp_path / "mixed.safetensors")

        refused(tmp_path / "mixed.safetensors", *shown)


def test_an_index_names_the_right_file(weights, tmp_path, golden):
    """
    A shard index must name existing files inside its folder, and the right one for each tensor.
    """
    root = write_folder(tmp_path / "model", weights, n_shards=2)
    index = root / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    tree = json.loads(index.read_text())
    (other,) = {*tree["weight_map"].values()} - {tree["weight_map"][K]}
    for name in ("../outside.safetensors", "/etc/passwd", "C:x", "missing.safetensors", other):
        index.write_text(json.dumps({"weight_map": {**tree["weight_map"], K: name}}))

        with golden.raises(CheckpointError, K if name == other else name):
            open_checkpoint(root)


@pytest.mark.linux  # Windows needs a privilege to create links
def test_refuses_cyclic_and_broken_links(weights, tmp_path, golden):
    """
    A link back to a folder that contains it, or to a missing file, is refused.
    """
    root = write_folder(tmp_path / "model", weights)
    for name, target in (("again", root), ("gone", root / "nothing")):
        (root / "unet" / name).symlink_to(target)

        with golden.raises(CheckpointError, name):
            open_checkpoint(root)
        (root / "unet" / name).unlink()
