"""The recognition of layouts, and the slots of their tensors."""

import shutil
import struct

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from loco_cli.checkpoint.layout import open_checkpoint
from loco_cli.checkpoint.reader import read_tensor
from loco_cli.errors import CheckpointError
from loco_cli.families import registry
from tests.checkpoints import D_TEXT, K_ORIGINAL, WIDTHS, K, write_folder, write_single_file


def value(weights, name, component="unet"):
    return next(w.value for w in weights if (w.component, w.name) == (component, name))


def test_finds_a_tensor_in_every_variant(folder, weights):
    """
    A canonical name has one slot per variant, in any shard.
    """
    checkpoint = open_checkpoint(folder)

    slots = checkpoint.slots("unet", K)

    assert checkpoint.family.name == "sd1"
    assert sorted(slot.dtype for slot in slots) == ["F16", "F32"]
    assert {slot.shape for slot in slots} == {(WIDTHS[0], D_TEXT)}
    for slot in slots:
        assert slot.file.startswith("unet/diffusion_pytorch_model")
        expected = torch.from_numpy(value(weights, K)).to(read_tensor(slot).dtype)
        assert torch.equal(read_tensor(slot), expected)


def test_finds_a_tensor_in_the_original_layout(single_file, weights):
    """
    The same canonical name finds the tensor of a single file under its original name.
    """
    checkpoint = open_checkpoint(single_file)

    (slot,) = checkpoint.slots("unet", K)

    found = (checkpoint.family.name, checkpoint.is_folder, checkpoint.d_text)
    assert found == ("sd1", False, D_TEXT)
    assert (slot.file, slot.tensor) == ("model.safetensors", K_ORIGINAL)
    assert np.array_equal(read_tensor(slot).numpy(), value(weights, K).astype(np.float16))


def test_has_every_layer_of_the_model_table(folder, single_file):
    """
    Each key and value projection of the SD 1 layer table exists with the width of the table.
    """
    for path in (folder, single_file):
        checkpoint = open_checkpoint(path)
        for layer in registry.family("sd1").layers(WIDTHS):
            for name, projection in zip(layer.tensor_names(), layer.projections, strict=True):
                assert checkpoint.slots("unet", name)[0].shape == (projection.d_out, D_TEXT)


def test_a_text_encoder_may_lack_its_prefix(folder, weights, tmp_path):
    """
    `text_model.` is optional in a name, both in the file and in the request.
    """
    name = "encoder.layers.0.self_attn.out_proj.weight"
    own = {w.name: w.value for w in weights if w.component == "text_encoder"}
    bare = write_folder(tmp_path / "bare", weights)
    bare_names = {key.removeprefix("text_model."): tensor for key, tensor in own.items()}
    save_file(bare_names, bare / "text_encoder" / "model.safetensors")

    for root in (folder, bare):
        checkpoint = open_checkpoint(root)
        with_prefix = checkpoint.slots("text_encoder", f"text_model.{name}")
        assert with_prefix == checkpoint.slots("text_encoder", name)
        assert with_prefix[0].tensor.endswith(name)


def test_a_missing_tensor_is_an_error(folder, golden):
    """
    A request for an unknown tensor is refused.
    """
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder).slots("unet", "up_blocks.9")

    golden(caught.value.message.replace(str(folder), "folder"))


def test_edits_the_ema_copy_too(tensors, tmp_path):
    """
    A single file with an EMA copy has two slots for each tensor of the UNet.
    """
    ema = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): tensor
        for name, tensor in tensors.items()
        if name.startswith("model.diffusion_model.")
    }
    save_file({**tensors, **ema}, tmp_path / "ema.safetensors")

    slots = open_checkpoint(tmp_path / "ema.safetensors").slots("unet", K)

    assert [slot.tensor.partition(".")[0] for slot in slots] == ["model", "model_ema"]


@pytest.mark.parametrize("layout", ["diffusers", "original", "original without a prefix"])
def test_reads_a_unet_alone(layout, weights, tmp_path):
    """
    A file of a UNet alone is recognised in each spelling.
    """
    unet = [w for w in weights if w.component == "unet"]
    prefix = "" if layout == "original" else "model.diffusion_model."
    names = {w.name if layout == "diffusers" else w.original.removeprefix(prefix): w for w in unet}
    path = tmp_path / "unet.safetensors"
    save_file({name: w.value for name, w in names.items()}, path)

    checkpoint = open_checkpoint(path)

    assert (checkpoint.family.name, checkpoint.components) == ("sd1", {"unet"})
    assert len(checkpoint.slots("unet", K)) == 1


def test_copies_in_a_folder_are_edited_with_it(weights, tmp_path):
    """
    A single file in the root of a folder, and copies under both suffixes, have slots as well.
    """
    root = write_folder(tmp_path / "both", weights)
    write_single_file(root / "whole.safetensors", weights)
    unet = root / "unet/diffusion_pytorch_model.safetensors"
    copies = [shutil.copy(unet, unet.with_name(n)) for n in ("copy.sft", "OTHER.SAFETENSORS")]

    slots = open_checkpoint(root).slots("unet", K)

    assert {slot.source for slot in slots} == {unet, root / "whole.safetensors", *copies}


def test_lists_weights_that_are_not_edited(weights, tmp_path):
    """
    Replaced pickles are left out; pickled components and other networks, but no VAE, are carried.
    """
    root = write_folder(tmp_path / "mixed", weights)
    for part, name in (("unet", "old/unet"), ("text_encoder", "encoder-v1"), ("vae", "old/vae")):
        shutil.copytree(root / part, root / name)
    pickled = "safety_checker/pytorch_model.bin"
    strays = ("diffusion_pytorch_model.bin", "diffusion_pytorch_model.safetensors.bak", "a.msgpack")
    left_out = (*sorted(f"unet/{stray}" for stray in strays), "v1.ckpt")
    for stray in (*left_out, pickled):
        (root / stray).parent.mkdir(exist_ok=True)
        (root / stray).write_bytes(b"\x80\x02}")

    checkpoint = open_checkpoint(root)

    unedited = ("encoder-v1/model", "old/unet/diffusion_pytorch_model")
    assert checkpoint.left_out == left_out
    assert checkpoint.carried == (*(f"{name}.safetensors" for name in unedited), pickled)


def test_recognises_sd2_by_its_linear_projections(tensors, tmp_path):
    """
    The layers of SD 1 with linear projections are SD 2, at any width.
    """
    for name, tensor in tensors.items():
        if ".1.proj_in.weight" in name or ".1.proj_out.weight" in name:
            tensors[name] = tensor[:, :, 0, 0].copy()
    save_file(tensors, tmp_path / "sd2.safetensors")

    assert open_checkpoint(tmp_path / "sd2.safetensors").family.name == "sd2"


def test_reads_headers_only(weights, tmp_path):
    """
    A file whose data is a hole on disk is recognised.
    """
    source = write_single_file(tmp_path / "a.safetensors", weights)
    content = source.read_bytes()
    n_bytes = 8 + struct.unpack("<Q", content[:8])[0]
    sparse = tmp_path / "sparse.safetensors"
    with sparse.open("wb") as file:
        file.write(content[:n_bytes])
        file.truncate(len(content))

    assert open_checkpoint(sparse).family.name == "sd1"
