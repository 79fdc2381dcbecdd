"""
Two checkpoints, tensor by tensor, streaming: what is identical is told by its bytes alone.

In the same layout a tensor's partner is the tensor of the same name in the same file; what is left,
and everything where a folder meets a single file, is matched by canonical name.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from loco_cli.checkpoint.header import shown
from loco_cli.checkpoint.layout import Checkpoint
from loco_cli.checkpoint.pairs import Pair, pair_slots
from loco_cli.checkpoint.reader import read_array
from loco_cli.checkpoint.slot import TensorSlot
from loco_cli.diff import Status
from loco_cli.errors import CheckpointError

if TYPE_CHECKING:
    from loco_cli.checkpoint.change import Change

_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True)
class Compared:
    """A pair and how it differs; `status` is None where both are identical."""

    pair: Pair
    status: Status | None
    change: "Change | None" = None


def compare_checkpoints(a: Checkpoint, b: Checkpoint) -> Iterator[Compared]:
    """
    Yield every pair of tensors in the order of A's files, then what only B has.

    Raises:
        CheckpointError: a file cannot be read, or became shorter meanwhile.
    """
    with ExitStack() as stack:
        bytes_of = _Ranges(stack)
        for pair in pair_slots(a, b):
            yield _compare(pair, bytes_of)


def metadata_changes(a: Checkpoint, b: Checkpoint) -> dict[str, dict[str, str | None]]:
    """
    Return what A and B say under each metadata key on which they differ; long values are cut.

    Files are paired by path; a folder and a single file have no files in common.
    """
    if a.is_folder != b.is_folder:
        return {}
    theirs = {file.path if b.is_folder else "": file.header.metadata for file in b.files}
    changes: dict[str, dict[str, str | None]] = {}
    for file in a.files:
        path = file.path if a.is_folder else ""
        mine, other = file.header.metadata, theirs.get(path)
        if other is None:
            continue
        for key in sorted({*mine, *other}):
            if mine.get(key) != other.get(key):
                place = f"{path}:{key}" if path else key
                changes[place] = {"a": _cut(mine.get(key)), "b": _cut(other.get(key))}
    return changes


def _cut(value: str | None, limit: int = 200) -> str | None:
    if value is None or len(value) <= limit:
        return value
    return f"{value[:limit]}… ({len(value)} characters)"


def _compare(pair: Pair, bytes_of: "_Ranges") -> Compared:
    a, b = pair.a, pair.b
    if b is None:
        return Compared(pair, "only_in_a")
    if a is None:
        return Compared(pair, "only_in_b")
    if not _is_same_shape(pair, a, b):
        return Compared(pair, "reshaped")
    if a.dtype != b.dtype:
        return Compared(pair, "retyped", _measure(a, b))
    if a.is_transposed == b.is_transposed:
        is_same = bytes_of.are_equal(a, b)
        return Compared(pair, None) if is_same else Compared(pair, "changed", _measure(a, b))
    change = _measure(a, b)  # the same numbers in another order of bytes
    return (
        Compared(pair, None) if change and not change.share else Compared(pair, "changed", change)
    )


def _is_same_shape(pair: Pair, a: TensorSlot, b: TensorSlot) -> bool:
    if pair.is_by_file:
        return a.shape == b.shape
    # one layout's 1x1 convolution [c, c, 1, 1] is the other's linear map [c, c]
    return _squeezed(a.canonical_shape) == _squeezed(b.canonical_shape)


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _measure(a: TensorSlot, b: TensorSlot) -> "Change | None":
    from loco_cli.checkpoint.change import measure  # numpy, only where something differs

    before, after = read_array(a), read_array(b)
    if before is None or after is None:
        return None
    return measure(before, after.reshape(before.shape), a.dtype if a.dtype == b.dtype else None)


class _Ranges:
    """Files held open, and two buffers in which ranges of them are compared chunk by chunk."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._files: dict[Path, BinaryIO] = {}
        self._buffers = bytearray(_CHUNK_BYTES), bytearray(_CHUNK_BYTES)

    def are_equal(self, a: TensorSlot, b: TensorSlot) -> bool:
        if a.begin == b.begin and a.source.samefile(b.source):
            return True
        left = a.end - a.begin
        file_a, file_b = self._at(a), self._at(b)
        while left:
            mine, theirs = (
                buffer if left >= _CHUNK_BYTES else bytearray(left) for buffer in self._buffers
            )
            self._fill(file_a, mine, a)
            self._fill(file_b, theirs, b)
            if mine != theirs:  # bytearrays compare by memcmp, memoryviews one by one
                return False
            left -= len(mine)
        return True

    def _at(self, slot: TensorSlot) -> BinaryIO:
        if slot.source not in self._files:
            try:
                self._files[slot.source] = self._stack.enter_context(slot.source.open("rb"))
            except OSError as error:
                raise CheckpointError(
                    f"cannot read `{shown(slot.source)}`: {error.strerror}"
                ) from error
        self._files[slot.source].seek(slot.begin)
        return self._files[slot.source]

    def _fill(self, file: BinaryIO, buffer: bytearray, slot: TensorSlot) -> None:
        if file.readinto(buffer) != len(buffer):  # type: ignore[attr-defined]
            raise CheckpointError(f"`{shown(slot.source)}` became shorter while it was read")
