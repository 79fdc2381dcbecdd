"""A tensor in a file: its slot, and conversions between its bytes and numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loco_cli.errors import CheckpointError, EditError, printable

if TYPE_CHECKING:
    import numpy as np
    import torch


_TORCH_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
_NUMPY_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "U64": "<u8",
    "I32": "<i4",
    "U32": "<u4",
    "I16": "<i2",
    "U16": "<u2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}


@dataclass(frozen=True)
class TensorSlot:
    """
    One copy of a canonical tensor in one file.

    `TensorSlot("unet", "conv_in.weight", file="a.safetensors",
    tensor="model.diffusion_model.input_blocks.0.0.weight", dtype="F16", shape=(8, 4, 3, 3), ...)`.

    `begin` and `end` count bytes from the start of `source`. If q, k and v are fused, the slot
    spans its rows of `tensor`, and `shape` is the shape of these rows. If `is_transposed`, the
    bytes are the transpose of the canonical tensor, whose shape is `canonical_shape`.
    """

    component: str
    name: str
    file: str
    tensor: str
    dtype: str
    shape: tuple[int, ...]
    source: Path
    begin: int
    end: int
    is_transposed: bool = False

    @property
    def key(self) -> str:
        """Return `file:tensor`, the key of the tensor in manifest and undo file."""
        return f"{self.file}:{self.tensor}"

    @property
    def canonical_shape(self) -> tuple[int, ...]:
        """Return the shape that diffusers gives the tensor."""
        return self.shape[::-1] if self.is_transposed else self.shape


_FLOAT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


def finest(slots: Sequence[TensorSlot]) -> TensorSlot:
    """Return the most precise copy of a tensor, the first one among equals."""
    return max(slots, key=lambda slot: _FLOAT_BYTES.get(slot.dtype, 0))


def read_range(source: Path, begin: int, end: int) -> bytearray:
    """Return the bytes from `begin` up to `end` of a file."""
    content = bytearray(end - begin)
    try:
        with source.open("rb") as file:
            file.seek(begin)
            n_bytes = file.readinto(content)  # avoids a second copy of a large tensor
    except OSError as error:
        raise CheckpointError(f"cannot read `{printable(source)}`: {error.strerror}") from error
    if n_bytes != end - begin:
        raise CheckpointError(
            f"`{printable(source)}` is cut short: of the {end - begin} bytes {begin} to {end}, "
            f"it has {n_bytes}"
        )
    return content


def read_bytes(slot: TensorSlot) -> bytearray:
    """Return the bytes of a tensor in its file."""
    return read_range(slot.source, slot.begin, slot.end)


def read_tensor(slot: TensorSlot) -> "torch.Tensor":
    """
    Read a tensor in its own dtype and canonical shape.

    Raises:
        CheckpointError: The file cannot be read, or torch has no such dtype.
    """
    import torch

    if slot.dtype not in _TORCH_DTYPES:
        raise CheckpointError(
            f"tensor `{printable(slot.key)}` is {slot.dtype}, which cannot be read as numbers"
        )
    dtype = getattr(torch, _TORCH_DTYPES[slot.dtype])
    content = read_bytes(slot)
    flat = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
    tensor = flat.reshape(slot.shape)
    return tensor.T.contiguous() if slot.is_transposed else tensor


def read_rows(slot: TensorSlot, rows: Sequence[int]) -> "torch.Tensor":
    """Read the given rows [n, d] of a tensor [*, d], in its own dtype."""
    import torch

    n_rows, n_bytes = slot.shape[0], (slot.end - slot.begin) // max(1, slot.shape[0])
    if slot.is_transposed or slot.dtype not in _TORCH_DTYPES or not 0 <= max(rows) < n_rows:
        raise CheckpointError(
            f"cannot read row {max(rows)} of tensor `{printable(slot.key)}`, "
            f"which is {slot.dtype} {list(slot.shape)}"
        )
    content = bytearray().join(
        read_range(slot.source, slot.begin + row * n_bytes, slot.begin + (row + 1) * n_bytes)
        for row in rows
    )
    flat = torch.frombuffer(content, dtype=getattr(torch, _TORCH_DTYPES[slot.dtype]))
    return flat.reshape(len(rows), *slot.shape[1:])


def tensor_bytes(tensor: "torch.Tensor", slot: TensorSlot) -> bytes:
    """
    Return the bytes of `tensor` in the layout of `slot`, rounded once to its dtype.

    Raises:
        EditError: The shapes differ, or a value is not finite in the slot's dtype.
    """
    import torch

    if tuple(tensor.shape) != slot.canonical_shape:
        raise EditError(
            f"edited tensor `{printable(slot.name)}` is {list(tensor.shape)}, "
            f"the original in `{printable(slot.file)}` is {list(slot.canonical_shape)}"
        )
    stored = tensor.detach().cpu().to(getattr(torch, _TORCH_DTYPES[slot.dtype]))
    if not bool(torch.isfinite(stored).all()):
        raise EditError(f"edited tensor `{printable(slot.name)}` has NaN or Inf in {slot.dtype}")
    stored = stored.T if slot.is_transposed else stored
    content: bytes = stored.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return content


def has_numbers(slot: TensorSlot) -> bool:
    """Return True if `read_array` can read the dtype of a slot."""
    return slot.dtype == "BF16" or slot.dtype in _NUMPY_DTYPES


def read_array(slot: TensorSlot) -> "np.ndarray | None":
    """
    Read a tensor with numpy alone; bfloat16 becomes float32, which is exact.

    Return None for a dtype that numpy lacks (fp8, fp4).
    """
    import numpy as np

    content = read_bytes(slot)
    if slot.dtype == "BF16":
        halves = np.frombuffer(content, dtype="<u2").astype(np.uint32)
        array = (halves << 16).view(np.float32)  # a bfloat16 is the upper half of a float32
    elif slot.dtype in _NUMPY_DTYPES:
        array = np.frombuffer(content, dtype=_NUMPY_DTYPES[slot.dtype])
    else:
        return None
    array = array.reshape(slot.shape)
    return array.T if slot.is_transposed else array
