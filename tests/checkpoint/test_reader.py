"""Tensors in and out of their bytes, in every dtype that is edited."""

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
    A tensor that goes out as it came in has the same bytes.
    """
    assert tensor_bytes(read_tensor(slot), slot) == read_bytes(slot)
    assert tensor_bytes(read_tensor(slot).double(), slot) == read_bytes(slot)


def test_reads_the_same_numbers_without_torch(slot):
    """
    numpy sees what torch sees, bfloat16 included.
    """
    assert np.array_equal(read_array(slot), read_tensor(slot).float().numpy())


def test_refuses_what_does_not_fit(slot):
    """
    Another shape, a NaN, and a number beyond the dtype are refused by name.
    """
    tensor = read_tensor(slot).double()

    with pytest.raises(
        EditError, match=r"is \[12, 8\], its place in `model.safetensors` is \[8, 12\]"
    ):
        tensor_bytes(tensor.T, slot)
    for bad in (float("nan"), 1e39):
        with pytest.raises(EditError, match="holds NaN or Inf"):
            tensor_bytes(tensor.index_fill(0, torch.tensor(0), bad), slot)


def test_a_slot_of_fused_rows_is_a_third(tmp_path):
    """
    k is the middle third of OpenCLIP's fused rows; a transposed projection comes out turned.
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


def test_tells_a_file_that_was_cut_meanwhile(slot):
    """
    A file that lost its end after it was opened is an error, not a short tensor.
    """
    content = slot.source.read_bytes()
    slot.source.write_bytes(content[: slot.begin + 1])

    with pytest.raises(CheckpointError, match="is cut short"):
        read_tensor(slot)


def test_k_is_where_the_original_layout_has_it(slot):
    """
    The slot names the tensor as its file does.
    """
    assert slot.key == f"model.safetensors:{K_ORIGINAL}"
