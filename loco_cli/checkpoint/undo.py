"""
The undo file: everything of the base that its edited copy does not hold.

It is a safetensors file. `FILE:TENSOR` is a tensor as the base had it; `FILE:__header__` the bytes
before the data of a base file, its 8 bytes of length included; `FILE:__file__` a whole file of the
base whose name the output needs for one of its own. The metadata lists the base's files with
their hashes, so that undoing can be proven.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from loco_cli.checkpoint.header import (
    Header,
    TensorInfo,
    parse_strict_json,
    read_header,
    render_header,
)
from loco_cli.checkpoint.patcher import Content, FileRange, Patch, iter_content
from loco_cli.errors import CheckpointError, printable
from loco_cli.manifest import Base

HEADER_TENSOR = "__header__"
FILE_TENSOR = "__file__"
_SCHEMA = "loco.undo/1"


@dataclass(frozen=True)
class Original:
    """What one place of the base held: `Original("a.safetensors", "bias", "F16", (8,), b"...")`."""

    file: str
    tensor: str
    dtype: str
    shape: tuple[int, ...]
    content: Content

    @classmethod
    def raw(cls, file: str, tensor: str, content: Content) -> "Original":
        """Return bytes that are no tensor: a header or a whole file."""
        return cls(file, tensor, "U8", (len(content),), content)


@dataclass(frozen=True)
class Undo:
    """An undo file that was opened: `read_undo(Path("out/loco-undo.safetensors"))`."""

    path: Path
    header: Header
    base: Base

    def whole_file(self, file: str) -> FileRange | None:
        """Return a base file that is kept here as a whole, or None."""
        key = f"{file}:{FILE_TENSOR}"
        return self.range(key) if key in self.header.tensors else None

    def patches(self, file: str, output: Header) -> tuple[Patch, ...]:
        """
        Return what turns a file of the output, whose header is `output`, into the base's.

        Raises:
            CheckpointError: a tensor is missing in the output, or is of another dtype or shape.
        """
        patches = []
        for key in self.tensors(file):
            mine, name = self.header.tensors[key], key.removeprefix(f"{file}:")
            if name == HEADER_TENSOR:
                patches.append(Patch(0, output.data_start, self.range(key)))
                continue
            theirs = output.tensors.get(name)
            if theirs is None or (theirs.dtype, theirs.shape) != (mine.dtype, mine.shape):
                raise CheckpointError(
                    f"`{printable(self.path)}` does not fit: `{printable(key)}` is "
                    f"{mine.dtype} {list(mine.shape)} in it, and {_described(theirs)} in the output"
                )
            patches.append(Patch(*output.span(name), self.range(key)))
        return tuple(patches)

    def tensors(self, file: str) -> tuple[str, ...]:
        """Return the keys that belong to one file of the base."""
        files = {record.path for record in self.base.files if record.path.startswith(f"{file}:")}
        return tuple(
            key
            for key in self.header.tensors
            if key.startswith(f"{file}:")
            and not any(key.startswith(f"{other}:") for other in files)
        )

    def edited_keys(self) -> set[str]:
        """Return the keys of all tensors, raw bytes excepted."""
        raw = (f":{HEADER_TENSOR}", f":{FILE_TENSOR}")
        return {key for key in self.header.tensors if not key.endswith(raw)}

    def range(self, key: str) -> FileRange:
        """Return where the undo file keeps what is under `key`."""
        return FileRange(self.path, *self.header.span(key))


def write_undo(sink: BinaryIO, originals: Sequence[Original], base: Base) -> None:
    """Write the undo file of a base: tensors in the order given, raw bytes behind them."""
    # raw bytes have odd lengths, and what follows them would be misaligned
    ordered = sorted(originals, key=lambda original: original.dtype == "U8")
    tensors, begin = [], 0
    for original in ordered:
        end = begin + len(original.content)
        key = f"{original.file}:{original.tensor}"
        tensors.append(TensorInfo(key, original.dtype, original.shape, begin, end))
        begin = end
    metadata = {"loco.schema": _SCHEMA, "loco.base": json.dumps(base.to_json(), ensure_ascii=False)}
    sink.write(render_header(tensors, metadata))
    for original in ordered:
        for chunk in iter_content(original.content):
            sink.write(chunk)


def read_undo(path: Path) -> Undo:
    """
    Return the undo file at `path`; only its header is read.

    Raises:
        CheckpointError: it is no undo file, or damaged.
    """
    header = read_header(path)
    if header.metadata.get("loco.schema") != _SCHEMA:
        raise CheckpointError(f"`{printable(path)}` is no undo file of `loco`")
    try:
        base = Base.model_validate(parse_strict_json(header.metadata.get("loco.base", "")))
    except ValueError as error:
        raise CheckpointError(
            f"`{printable(path)}` is damaged: its list of base files cannot be read"
        ) from error
    return Undo(path, header, base)


def _described(tensor: TensorInfo | None) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}" if tensor else "missing"
