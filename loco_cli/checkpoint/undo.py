"""
The undo file: the bytes of the base that its edited copy lacks.

It is a safetensors file. `FILE:TENSOR` is a tensor of the base. `FILE:__header__` has the bytes
before the data of a base file, including the 8 length bytes. `FILE:__file__` is a whole file of the
base whose name the output uses for a file of its own. The metadata lists the files of the base with
their hashes, so undo can prove its result.
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
    """A piece of the base: `Original("a.safetensors", "bias", "F16", (8,), b"...")`."""

    file: str
    tensor: str
    dtype: str
    shape: tuple[int, ...]
    content: Content

    @classmethod
    def raw(cls, file: str, tensor: str, content: Content) -> "Original":
        """Return an original of raw bytes: a header or a whole file."""
        return cls(file, tensor, "U8", (len(content),), content)


@dataclass(frozen=True)
class Undo:
    """An open undo file: `read_undo(Path("out/loco-undo.safetensors"))`."""

    path: Path
    header: Header
    base: Base

    def whole_file(self, file: str) -> FileRange | None:
        """Return the range of a whole base file, or None if this undo file lacks it."""
        key = f"{file}:{FILE_TENSOR}"
        return self.range(key) if key in self.header.tensors else None

    def patches(self, file: str, output: Header) -> tuple[Patch, ...]:
        """
        Return the patches that restore a file of the base.

        Args:
            file: The path of the file.
            output: The header of the edited file.

        Raises:
            CheckpointError: The output lacks a tensor, or the tensor has another dtype or shape.
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
                    f"`{printable(self.path)}` does not fit the output: `{printable(key)}` is "
                    f"{mine.dtype} {list(mine.shape)} there, and {_described(theirs)} in the output"
                )
            patches.append(Patch(*output.span(name), self.range(key)))
        return tuple(patches)

    def tensors(self, file: str) -> tuple[str, ...]:
        """Return the keys of one base file."""
        files = {record.path for record in self.base.files if record.path.startswith(f"{file}:")}
        return tuple(
            key
            for key in self.header.tensors
            if key.startswith(f"{file}:")
            and not any(key.startswith(f"{other}:") for other in files)
        )

    def edited_keys(self) -> set[str]:
        """Return the keys of all tensors, without headers and whole files."""
        raw = (f":{HEADER_TENSOR}", f":{FILE_TENSOR}")
        return {key for key in self.header.tensors if not key.endswith(raw)}

    def range(self, key: str) -> FileRange:
        """Return the range of a key's content in the undo file."""
        return FileRange(self.path, *self.header.span(key))


def write_undo(sink: BinaryIO, originals: Sequence[Original], base: Base) -> None:
    """
    Write an undo file: the tensors in the given order, followed by raw bytes.

    Args:
        sink: A file that is open for writing.
        originals: The originals of all changed files.
        base: The record of the base, with the hashes of its files.
    """
    # raw bytes may have odd lengths, which would misalign tensors after them
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
    Open the undo file at `path`; only its header is read.

    Raises:
        CheckpointError: It is not an undo file, or is damaged.
    """
    header = read_header(path)
    if header.metadata.get("loco.schema") != _SCHEMA:
        raise CheckpointError(f"`{printable(path)}` is not an undo file of `loco`")
    try:
        base = Base.model_validate(parse_strict_json(header.metadata.get("loco.base", "")))
    except ValueError as error:
        raise CheckpointError(
            f"`{printable(path)}` is damaged: its list of base files cannot be read"
        ) from error
    return Undo(path, header, base)


def _described(tensor: TensorInfo | None) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}" if tensor else "missing"
