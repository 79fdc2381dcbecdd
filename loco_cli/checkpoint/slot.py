"""Where one tensor lives: a file and a range of its bytes."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TensorSlot:
    """
    One copy of a canonical tensor in one file.

    `TensorSlot("unet", "conv_in.weight", file="a.safetensors",
    tensor="model.diffusion_model.input_blocks.0.0.weight", dtype="F16", shape=(8, 4, 3, 3), ...)`.

    `begin` and `end` count bytes from the start of `source`. Where q, k and v are fused they span a
    third of the rows of `tensor`, and `shape` is that third's; `is_transposed` tells that the bytes
    are the transpose of the canonical tensor, whose shape is `canonical_shape`.
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
        """Return `file:tensor`, the name by which manifest and undo file know it."""
        return f"{self.file}:{self.tensor}"

    @property
    def canonical_shape(self) -> tuple[int, ...]:
        """Return the shape that diffusers gives the tensor."""
        return self.shape[::-1] if self.is_transposed else self.shape
