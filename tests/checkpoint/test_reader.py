"""Conversion between tensors and bytes, in every editable dtype."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from loco_cli.checkpoint.layout import open_checkpoint
from loco_cli.checkpoint.reader import read_array, read_bytes, read_tensor, tensor_bytes
from loco_cli.errors import CheckpointError, EditError
from tests.checkpoints import K_ORIGINAL, K, sd1_weights


@pytest.fixture(params=["float32", "float16", "bfloat16"])
def slot(request, tmp_path):
    dtype = getattr(torch, request.param)
    tensors = {w.original: torch.from_numpy(w.value).to(dtype) for w in sd1_weights()}
    save_file(tensors, tmp_path / "model.safetensors")
    return open_checkpoint(tmp_path / "model.safetensors").slots("unet", K)[0]


def test_writes_the_bytes_that_it_read(slot):
    """
    An unchanged tensor is written with the same bytes; its key has its name in the file.
    """
    assert slot.key == f"model.safetensors:{K_ORIGINAL}"
    assert tensor_bytes(read_tensor(slot), slot) == read_bytes(slot)
    assert tensor_bytes(read_tensor(slot).double(), slot) == read_bytes(slot)


def test_reads_the_same_numbers_without_torch(slot):
    """
    numpy and torch read the same numbers, bfloat16 included.
    """
    assert np.array_equal(read_array(slot), read_tensor(slot).float().numpy())


def test_refuses_tensors_that_do_not_fit(slot, golden):
    """
    A tensor of another shape, with NaN, or beyond the range of the dtype is refused.
    """
    tensor = read_tensor(slot).double()

    with golden.raises(EditError, "[12, 8]", "[8, 12]"):
        tensor_bytes(tensor.T, slot)
    for bad in (float("nan"), 1e39):
        with golden.raises(EditError, K):
            tensor_bytes(tensor.index_fill(0, torch.tensor(0), bad), slot)


def test_a_slot_of_fused_rows_is_one_third(tmp_path):
    """
    k is the middle third of OpenCLIP's fused rows, and a transposed projection is transposed back.
    """
    prefix = "cond_stage_model.model."
    fused = torch.arange(18.0).reshape(6, 3)
    projection = torch.arange(6.0).reshape(2, 3)
    tensors = {
        w.original: torch.from_numpy(w.value) for w in sd1_weights() if w.component == "unet"
    }
    tensors[f"{prefix}transformer.resblocks.0.attn.in_proj_weight"] = fused
    tensors[f"{prefix}text_projection"] = projection
    save_file(tensors, tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path / "model.safetensors")

    (k,) = checkpoint.slots("text_encoder", "encoder.layers.0.self_attn.k_proj.weight")
    (turned,) = checkpoint.slots("text_encoder", "text_projection.weight")

    assert torch.equal(read_tensor(k), fused[2:4])
    assert torch.equal(read_tensor(turned), projection.T)
    assert np.array_equal(read_array(turned), projection.T.numpy())
    assert tensor_bytes(projection.T, turned) == read_bytes(turned)


def test_refuses_tensors_that_cannot_be_read(slot, golden):
    """
    A dtype that torch lacks, and a file that was cut after it was opened, are refused.
    """
    slot.source.write_bytes(slot.source.read_bytes()[: slot.begin + 1])

    for odd, name in ((replace(slot, dtype="F4"), "F4"), (slot, "model.safetensors")):
        with golden.raises(CheckpointError, name):
            read_tensor(odd)
