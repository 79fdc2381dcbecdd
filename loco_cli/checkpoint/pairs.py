"""Which tensor of one checkpoint is which of another."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from loco_cli.checkpoint.layout import Checkpoint
from loco_cli.checkpoint.slot import TensorSlot


@dataclass(frozen=True)
class Pair:
    """
    Two copies of one tensor; None where a side has none.

    `is_by_file` tells that both have the same name in the same file, not only the same meaning.
    """

    a: TensorSlot | None
    b: TensorSlot | None
    is_by_file: bool = False


def pair_slots(a: Checkpoint, b: Checkpoint) -> tuple[Pair, ...]:
    """
    Return every tensor of both, paired, in the order of A's files, then what only B has.

    Where layouts differ, a tensor that several variants hold is paired once, with the copy of the
    same dtype if there is one: variants are copies, not differences.
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


def _pairs_by_file(a: Checkpoint, b: Checkpoint) -> tuple[Pair, ...]:
    theirs = {(slot.file if b.is_folder else "", slot.tensor): slot for slot in _whole_tensors(b)}
    mine = (((slot.file if a.is_folder else "", slot.tensor), slot) for slot in _whole_tensors(a))
    return tuple(Pair(slot, theirs[key], is_by_file=True) for key, slot in mine if key in theirs)


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
) -> Iterator[Pair]:
    pairs = []
    for slot in list(a):
        partner = next((other for other in b if other.dtype == slot.dtype), None)
        if partner:
            pairs.append(Pair(slot, partner))
            a, b = [x for x in a if x is not slot], [x for x in b if x is not partner]
    if not pairs and a and b:
        pairs.append(Pair(a[0], b[0]))
        a, b = a[1:], b[1:]
    yield from pairs
    if with_copies or not pairs:
        yield from (Pair(slot, None) for slot in a)
        yield from (Pair(None, slot) for slot in b)
