"""
Comparison of two checkpoints, tensor by tensor.

Two threads each compare the bytes of one tensor in chunks. Tensors that differ are measured in
blocks of rows.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, BinaryIO

from loco_cli.checkpoint.layout import Checkpoint
from loco_cli.checkpoint.reader import TensorSlot, has_numbers, read_array
from loco_cli.diff import Status
from loco_cli.errors import CheckpointError, printable

if TYPE_CHECKING:
    import numpy as np

    from loco_cli.checkpoint.change import Change

_N_THREADS = 2  # one compares while the other waits for the disk
_CHUNK_BYTES = 1 << 20  # both buffers of a thread fit into its cache
_BLOCK_ELEMENTS = 1 << 18


@dataclass(frozen=True)
class _Pair:
    """
    Two copies of one tensor; None if a side lacks it.

    `is_by_file` is True if both have the same name in the same file, and False if only their
    canonical names agree.
    """

    a: TensorSlot | None
    b: TensorSlot | None
    is_by_file: bool = False


def pair_slots(a: Checkpoint, b: Checkpoint) -> tuple[_Pair, ...]:
    """
    Pair the tensors of two checkpoints.

    If the layouts differ, a tensor with several variants is paired once, with the copy of the same
    dtype if one exists. Variants are copies, not differences.

    Args:
        a: The first checkpoint.
        b: The second checkpoint.

    Returns:
        Every tensor of both, in the order of A's files, then the tensors that only B has.
    """
    by_file = _pairs_by_file(a, b) if a.is_folder == b.is_folder else ()
    done_a = {(pair.a.file, pair.a.tensor) for pair in by_file if pair.a}
    done_b = {(pair.b.file, pair.b.tensor) for pair in by_file if pair.b}
    rest_a, rest_b = _rest(a, done_a), _rest(b, done_b)
    by_name = tuple(
        pair
        for key in dict.fromkeys((*rest_a, *rest_b))
        for pair in _pairs_by_name(
            rest_a.get(key, []), rest_b.get(key, []), with_copies=a.is_folder == b.is_folder
        )
    )
    return (*by_file, *by_name)


def _pairs_by_file(a: Checkpoint, b: Checkpoint) -> tuple[_Pair, ...]:
    theirs = {(slot.file if b.is_folder else "", slot.tensor): slot for slot in _whole_tensors(b)}
    mine = (((slot.file if a.is_folder else "", slot.tensor), slot) for slot in _whole_tensors(a))
    return tuple(_Pair(slot, theirs[key], is_by_file=True) for key, slot in mine if key in theirs)


def _whole_tensors(checkpoint: Checkpoint) -> Iterator[TensorSlot]:
    headers = {file.path: file.header for file in checkpoint.files}
    seen = set()
    for slot in _in_file_order(checkpoint):
        if (slot.file, slot.tensor) not in seen:
            seen.add((slot.file, slot.tensor))
            begin, end = headers[slot.file].span(slot.tensor)
            shape = headers[slot.file].tensors[slot.tensor].shape
            is_fused = shape != slot.shape
            name = slot.name.replace(".q_proj.", ".{q,k,v}_proj.") if is_fused else slot.name
            yield replace(slot, name=name, begin=begin, end=end, shape=shape)


def _in_file_order(checkpoint: Checkpoint) -> list[TensorSlot]:
    slots = (slot for copies in checkpoint.slots_by_name.values() for slot in copies)
    return sorted(slots, key=lambda slot: (slot.file, slot.begin))


def _rest(
    checkpoint: Checkpoint, done: set[tuple[str, str]]
) -> dict[tuple[str, str], list[TensorSlot]]:
    rest: dict[tuple[str, str], list[TensorSlot]] = {}
    for slot in _in_file_order(checkpoint):
        if (slot.file, slot.tensor) not in done:
            rest.setdefault((slot.component, slot.name), []).append(slot)
    return rest


def _pairs_by_name(
    a: list[TensorSlot], b: list[TensorSlot], *, with_copies: bool
) -> Iterator[_Pair]:
    pairs = []
    for slot in list(a):
        partner = next((other for other in b if other.dtype == slot.dtype), None)
        if partner:
            pairs.append(_Pair(slot, partner))
            a, b = [x for x in a if x is not slot], [x for x in b if x is not partner]
    if not pairs and a and b:
        pairs.append(_Pair(a[0], b[0]))
        a, b = a[1:], b[1:]
    yield from pairs
    if with_copies or not pairs:
        yield from (_Pair(slot, None) for slot in a)
        yield from (_Pair(None, slot) for slot in b)


@dataclass(frozen=True)
class Compared:
    """A compared pair; `status` is None if both tensors are identical."""

    pair: _Pair
    status: Status | None
    change: "Change | None" = None


def compare_pairs(pairs: Sequence[_Pair]) -> Iterator[Compared]:
    """
    Compare pairs of tensors, and yield the results in the order of the pairs.

    Args:
        pairs: The pairs of `pair_slots`.

    Yields:
        One result per pair.

    Raises:
        CheckpointError: A file cannot be read, or became shorter during the comparison.
    """
    with ExitStack() as stack:
        idle: SimpleQueue[_Ranges] = SimpleQueue()  # each running comparison takes one
        for _ in range(_N_THREADS):
            idle.put(stack.enter_context(_Ranges()))

        def compare(pair: _Pair) -> Compared:
            ranges = idle.get()
            try:
                return _compare(pair, ranges)
            finally:
                idle.put(ranges)

        threads = stack.enter_context(ThreadPoolExecutor(_N_THREADS))
        yield from threads.map(compare, pairs)  # `map` cancels the waiting pairs after a failure


def metadata_changes(a: Checkpoint, b: Checkpoint) -> dict[str, dict[str, str | None]]:
    """
    Return the metadata of A and B under each key whose values differ; long values are truncated.

    Files are paired by path. A folder and a single file have no files in common.
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


def _compare(pair: _Pair, bytes_of: "_Ranges") -> Compared:
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
    change = _measure(a, b)  # one is transposed, so equal numbers have different bytes
    return (
        Compared(pair, None) if change and not change.share else Compared(pair, "changed", change)
    )


def _is_same_shape(pair: _Pair, a: TensorSlot, b: TensorSlot) -> bool:
    if pair.is_by_file:
        return a.shape == b.shape
    # a 1x1 convolution [c, c, 1, 1] of one layout is a linear map [c, c] of the other
    return _squeezed(a.canonical_shape) == _squeezed(b.canonical_shape)


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _measure(a: TensorSlot, b: TensorSlot) -> "Change | None":
    if not (has_numbers(a) and has_numbers(b)):
        return None
    from loco_cli.checkpoint.change import measure  # imports numpy, which equal tensors do not need

    return measure(_blocks(a, b), a.dtype if a.dtype == b.dtype else None)


def _blocks(a: TensorSlot, b: TensorSlot) -> "Iterator[tuple[np.ndarray, np.ndarray]]":
    """Yield both tensors as arrays in row blocks, or in one block if only one is transposed."""
    if a.is_transposed != b.is_transposed:
        yield from _as_pair(a, b)
        return
    n_rows, *inner = a.shape or (1,)
    n_together = max(1, _BLOCK_ELEMENTS // max(1, prod(inner)))
    for begin in range(0, n_rows, n_together):
        end = min(begin + n_together, n_rows)
        yield from _as_pair(*(_rows(slot, begin, end, (end - begin, *inner)) for slot in (a, b)))


def _as_pair(a: TensorSlot, b: TensorSlot) -> "Iterator[tuple[np.ndarray, np.ndarray]]":
    before, after = read_array(a), read_array(b)
    assert before is not None
    assert after is not None
    yield before, after.reshape(before.shape)


def _rows(slot: TensorSlot, begin: int, end: int, shape: tuple[int, ...]) -> TensorSlot:
    n_rows = slot.shape[0] if slot.shape else 1
    row_bytes = (slot.end - slot.begin) // n_rows
    return replace(
        slot,
        begin=slot.begin + begin * row_bytes,
        end=slot.begin + end * row_bytes,
        shape=shape,
        is_transposed=False,
    )


class _Ranges:
    """Open files, and two buffers to compare ranges of them in chunks."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._files: dict[Path, BinaryIO] = {}
        self._buffers = bytearray(_CHUNK_BYTES), bytearray(_CHUNK_BYTES)

    def __enter__(self) -> "_Ranges":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def are_equal(self, a: TensorSlot, b: TensorSlot) -> bool:
        if a.begin == b.begin and a.source.samefile(b.source):
            return True
        file_a, file_b = self._at(a), self._at(b)
        mine, theirs = self._buffers
        left = a.end - a.begin
        while left:
            n_bytes = min(left, _CHUNK_BYTES)
            self._fill(file_a, memoryview(mine)[:n_bytes], a)
            self._fill(file_b, memoryview(theirs)[:n_bytes], b)
            # `startswith` is a memcmp; `==` on memoryviews compares element by element
            if not mine.startswith(memoryview(theirs)[:n_bytes]):
                return False
            left -= n_bytes
        return True

    def _at(self, slot: TensorSlot) -> BinaryIO:
        if slot.source not in self._files:
            try:
                self._files[slot.source] = self._stack.enter_context(slot.source.open("rb"))
            except OSError as error:
                raise CheckpointError(
                    f"cannot read `{printable(slot.source)}`: {error.strerror}"
                ) from error
        self._files[slot.source].seek(slot.begin)
        return self._files[slot.source]

    def _fill(self, file: BinaryIO, buffer: memoryview, slot: TensorSlot) -> None:
        if file.readinto(buffer) != len(buffer):  # type: ignore[attr-defined] # missing from typeshed
            raise CheckpointError(f"`{printable(slot.source)}` became shorter while it was read")
