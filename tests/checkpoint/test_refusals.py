"""What is no model, or cannot be edited: each with its own sentence."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from loco_cli.checkpoint.layout import open_checkpoint
from loco_cli.errors import CheckpointError, RequestError
from tests.checkpoints import K_ORIGINAL, K, write_folder, write_single_file


def sd1_tensors(weights):
    return {w.original: w.value.astype(np.float16) for w in weights}


def refusal(path: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    assert "\n" not in caught.value.message
    return caught.value


def test_refuses_a_path_that_is_not_there(tmp_path):
    """
    A wrong path is a wrong request.
    """
    with pytest.raises(RequestError, match="there is no file or folder") as caught:
        open_checkpoint(tmp_path / "nothing")

    assert caught.value.exit_code == 2


def test_refuses_folders_that_are_no_model(weights, tmp_path):
    """
    An empty folder, one without weights, one without a UNet: each has its own sentence.
    """
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("a")
    vae_only = write_folder(tmp_path / "vae", [w for w in weights if w.component == "vae"])
    for part in ("unet", "text_encoder"):
        shutil.rmtree(vae_only / part)

    assert "is empty" in refusal(tmp_path / "empty").message
    assert "no `.safetensors` file is in it" in refusal(tmp_path / "notes").message
    assert "is a VAE, not a model" in refusal(vae_only).message


def test_refuses_pickles(weights, tmp_path):
    """
    A pickle as the base is refused with the way out, and is not opened.
    """
    (tmp_path / "model.ckpt").write_bytes(b"\x80\x02cos\nsystem\n")
    root = write_folder(tmp_path / "pickled", weights)
    (root / "unet/diffusion_pytorch_model.safetensors").rename(
        root / "unet/diffusion_pytorch_model.bin"
    )

    for path in (tmp_path / "model.ckpt", root):
        assert "pickle" in refusal(path).message
        assert "convert it to safetensors" in refusal(path).hint


STRANGERS = {
    "is a LoRA": {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": (1, 8)},
    "is a ControlNet": {"control_model.input_blocks.0.0.weight": (8, 4, 3, 3)},
    "is a VAE": {"first_stage_model.decoder.conv_in.weight": (8, 4, 3, 3)},
    "is a text encoder": {"text_model.final_layer_norm.weight": (8,)},
    "is a transformer such as SD 3": {"model.joint_blocks.0.x.weight": (8, 8)},
    "is not a model that loco supports": {"conv1.weight": (8, 3, 7, 7)},
    "an unknown architecture": {"down_blocks.0.a.attn2.to_k.weight": (8, 8), "up_blocks.0.a": (1,)},
    "holds no tensors": {},
}


@pytest.mark.parametrize("words", STRANGERS)
def test_refuses_what_is_no_model(words, tmp_path):
    """
    A file that is something else is called by its name; an unknown one never passes for SD 1.
    """
    path = tmp_path / "stranger.safetensors"
    save_file({name: np.ones(shape, np.float16) for name, shape in STRANGERS[words].items()}, path)

    assert words in refusal(path).message


def test_refuses_text_and_cut_files(single_file, tmp_path):
    """
    A text file under the name of a model, and a model cut short, are told apart.
    """
    (tmp_path / "notes.safetensors").write_text("these are only notes\n")
    (tmp_path / "cut.safetensors").write_bytes(single_file.read_bytes()[:-100])

    assert "is no safetensors file" in refusal(tmp_path / "notes.safetensors").message
    assert "is cut short" in refusal(tmp_path / "cut.safetensors").message


@pytest.mark.parametrize(
    "name",
    [
        K_ORIGINAL,
        "model.diffusion_model.input_blocks.0.0.bias",
        "cond_stage_model.transformer.text_model.final_layer_norm.bias",
    ],
)
def test_refuses_fp8(weights, tmp_path, name):
    """
    A quantised model is refused, be it only a bias, naming the tensor and what can be edited.
    """
    tensors = {w.original: torch.from_numpy(w.value) for w in weights}
    tensors[name] = tensors[name].to(torch.float8_e4m3fn)
    save_torch(tensors, tmp_path / "fp8.safetensors")

    error = refusal(tmp_path / "fp8.safetensors")

    assert f"`{name}` is F8_E4M3, loco edits F32, F16, BF16" in error.message


def test_refuses_numbers_that_it_cannot_round_to(weights, tmp_path):
    """
    Double precision is no quantised model, and is refused in other words.
    """
    tensors = {w.original: w.value for w in weights}
    tensors[K_ORIGINAL] = tensors[K_ORIGINAL].astype(np.float64)
    save_file(tensors, tmp_path / "f64.safetensors")

    assert "cannot be edited: tensor" in refusal(tmp_path / "f64.safetensors").message


def test_refuses_an_ema_copy_that_it_could_not_edit(weights, tmp_path):
    """
    An averaged copy is edited with its tensor; where that one is missing, none is left behind.
    """
    tensors = sd1_tensors(weights)
    ema = {f"model_ema.{name.removeprefix('model.').replace('.', '')}" for name in tensors}
    alone = {name: np.ones((1,), np.float16) for name in ema}
    save_file(alone, tmp_path / "alone.safetensors")
    stray = "model_ema.diffusion_modelinput_blocks991transformer_blocks0attn2to_kweight"
    save_file({**tensors, stray: tensors[K_ORIGINAL]}, tmp_path / "stray.safetensors")

    assert "only the averaged copy (EMA)" in refusal(tmp_path / "alone.safetensors").message
    assert f"has the averaged copy `{stray}`" in refusal(tmp_path / "stray.safetensors").message


def test_refuses_a_folder_of_models(weights, tmp_path):
    """
    Models that only lie in one folder are not copies of each other; variants and shards are.
    """
    for name in ("dreams", "photos"):
        write_single_file(tmp_path / f"{name}.safetensors", weights)

    error = refusal(tmp_path)

    assert "holds 2 models, among them `dreams.safetensors` and `photos.safetensors`" in (
        error.message
    )
    (tmp_path / "photos.safetensors").rename(tmp_path / "dreams.fp16.safetensors")
    assert len(open_checkpoint(tmp_path).slots("unet", K)) == 2


def test_refuses_parts_that_do_not_belong_together(weights, tmp_path):
    """
    A text encoder of another width than the UNet reads is refused with both numbers.
    """
    tensors = sd1_tensors(weights)
    name = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    tensors[name] = np.zeros((20, 24), np.float16)
    save_file(tensors, tmp_path / "mixed.safetensors")

    message = refusal(tmp_path / "mixed.safetensors").message

    assert "outputs 24 numbers per token, and the UNet reads 12" in message


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("../outside.safetensors", "leaves its folder"),
        ("/etc/passwd", "leaves its folder"),
        ("missing.safetensors", "is not there"),
    ],
)
def test_an_index_stays_in_its_folder(named, words, weights, tmp_path):
    """
    A shard index that leads out of the folder, or nowhere, is refused.
    """
    root = write_folder(tmp_path / "model", weights)
    index = root / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {K: named}}))

    assert words in refusal(root).message


def test_an_index_tells_the_truth(weights, tmp_path):
    """
    A shard index that puts a tensor where it is not is refused.
    """
    root = write_folder(tmp_path / "model", weights, n_shards=2)
    index = root / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    tree = json.loads(index.read_text())
    file = tree["weight_map"][K]
    tree["weight_map"][K] = (
        file.replace("00001-of", "X").replace("00002-of", "00001-of").replace("X", "00002-of")
    )
    index.write_text(json.dumps(tree))

    assert "which does not hold it" in refusal(root).message


def test_a_link_must_not_lead_round_in_a_circle(weights, tmp_path):
    """
    A link back to its own folder, or to nowhere, is refused instead of followed for ever.
    """
    root = write_folder(tmp_path / "model", weights)
    (root / "unet" / "again").symlink_to(root)
    assert "leads back to a folder that it lies in" in refusal(root).message

    (root / "unet" / "again").unlink()
    (root / "unet" / "gone").symlink_to(root / "nothing")
    assert "cannot follow link" in refusal(root).message


def test_fused_rows_must_come_in_threes(weights, tmp_path):
    """
    An OpenCLIP tensor whose rows are no multiple of three is refused.
    """
    name = "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight"
    save_file(
        {**sd1_tensors(weights), name: np.zeros((4, 3), np.float16)}, tmp_path / "x.safetensors"
    )

    assert "not q, k and v on top of each other" in refusal(tmp_path / "x.safetensors").message
