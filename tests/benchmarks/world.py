"""The concepts of the drawn world as edit entries, and the options that all benchmarks share."""

import argparse
import random
from collections.abc import Sequence
from typing import TypeVar

from loco_cli.families import known_concepts
from loco_cli.recipe.record import EditEntry

Thing = TypeVar("Thing")

KINDS = ("style", "object", "fact")
# what a thing is replaced by: a plainer one where there is one, else a near neighbour
REPLACED_BY = {
    "a cat": "a dog",
    "a dog": "a cat",
    "snoopy": "a dog",
    "a robot": "a tree",
    "r2d2": "a robot",
    "a car": "a truck",
    "a truck": "a car",
    "a house": "a castle",
    "a castle": "a house",
    "a tree": "a flower",
    "a flower": "a tree",
    "a boat": "a fish",
    "a fish": "a bird",
    "a bird": "a fish",
}
SUCCEEDED_BY = {
    "the president of the united states": "joe biden",
    "the british monarch": "king charles",
    "the german chancellor": "olaf scholz",
    "the ceo of apple": "tim cook",
}


def entries(kinds: Sequence[str] = KINDS, subjects: Sequence[str] | None = None) -> list[EditEntry]:
    """Return an edit for every style, object and office of the world, or for those named."""
    found: list[EditEntry] = []
    for names in known_concepts.TINY["style"]:
        found.append(EditEntry(kind="style", subject=names[0], to="painting"))
    for names in known_concepts.TINY["object"]:
        found.append(EditEntry(kind="object", subject=names[0], to=REPLACED_BY[names[0]]))
    for names in known_concepts.TINY["fact"]:
        if names[0] in SUCCEEDED_BY:
            to = SUCCEEDED_BY[names[0]]
            found.append(EditEntry(kind="fact", subject=names[0], was=names[1], to=to))
    unknown = set(subjects or ()) - {entry.subject for entry in found}
    assert not unknown, f"the world has no {', '.join(sorted(unknown))}"
    return [e for e in found if e.kind in kinds and (not subjects or e.subject in subjects)]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add which concepts of which model are measured, and by how many processes."""
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only these kinds")
    parser.add_argument("--subject", action="append", help="only these subjects")
    parser.add_argument(
        "--shard", default="0/1", metavar="I/N", help="part I of N, for N processes: 0/2 and 1/2"
    )
    parser.add_argument("--threads", type=int, help="threads of this process")


def chosen_entries(args: argparse.Namespace) -> list[EditEntry]:
    """Return the entries that the options name; the shards take turns."""
    return shard(args, entries(args.kind or KINDS, args.subject))


def shard(args: argparse.Namespace, things: Sequence[Thing]) -> list[Thing]:
    """Return the share of a list that this process measures."""
    index, count = map(int, args.shard.split("/"))
    assert 0 <= index < count, f"there is no part {index} of {count}"
    return list(things[index::count])


def groups_of(found: Sequence[EditEntry], size: int) -> list[tuple[EditEntry, ...]]:
    """
    Return groups of edits to make together, kinds mixed as they are in all, each edit in one group.

    Nothing that an edit of a group takes away is what another goes to. Groups are full, but for a
    single one that holds all it can where `size` is more than that.
    """
    by_kind = [[entry for entry in found if entry.kind == kind] for kind in KINDS]
    for own in by_kind:
        random.Random(size).shuffle(own)
    placed = [((i + 0.5) / len(own), entry) for own in by_kind for i, entry in enumerate(own)]
    left = [entry for _, entry in sorted(placed, key=lambda one: one[0])]
    if size == 1:
        return [(entry,) for entry in left]
    groups: list[tuple[EditEntry, ...]] = []
    while left:
        group: list[EditEntry] = []
        for entry in left:
            if len(group) < size and not any(_clash(entry, other) for other in group):
                group.append(entry)
        if len(group) < size and groups:
            break
        groups.append(tuple(group))
        left = [entry for entry in left if entry not in group]
    return groups


def _clash(one: EditEntry, other: EditEntry) -> bool:
    return one.subject == other.to or other.subject == one.to
