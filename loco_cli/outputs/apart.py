"""What is read stays: no file is written over a source, or into one."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from loco_cli.checkpoint.layout import Checkpoint
from loco_cli.errors import OutputExists, printable

Written = Literal["output", "recipe"]
_OPTIONS: dict[Written, str] = {"output": "--output", "recipe": "--save-recipe"}


def sources_of(base: Checkpoint) -> tuple[Path, ...]:
    """Return where a checkpoint is read: its root, and the folders and files that links lead to."""
    folders = [entry.source.parent for entry in base.entries] if base.is_folder else []
    return tuple(dict.fromkeys((base.root, *folders, *(entry.source for entry in base.entries))))


def check_outside_sources(
    sources: Iterable[Path], place: Path, what: Written = "output", *, is_folder: bool = False
) -> None:
    """
    Raise OutputExists where a file is to be written that is a source, or lies inside of one.

    With `is_folder` the place is replaced with all that is in it, so it may hold no source either.
    """
    # the name itself is given to the new file, even where it is a link that leads elsewhere
    places = (place.resolve(), place.parent.resolve() / place.name)
    for source in sources:
        real = source.resolve()
        if real in places:
            is_what = "is"
        elif real.is_dir() and any(there.is_relative_to(real) for there in places):
            is_what = "lies inside"
        elif is_folder and any(real.is_relative_to(there) for there in places):
            is_what = "contains"
        else:
            continue
        raise OutputExists(
            f"the {what} `{printable(place)}` {is_what} `{printable(source)}`, which is only read",
            f"choose another `{_OPTIONS[what]}`",
        )
