"""Checks of places to write: nothing that is read is overwritten, nothing else unasked."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from loco_cli.checkpoint.layout import Checkpoint
from loco_cli.checkpoint.staging import check_writable
from loco_cli.errors import OutputExists, RequestError, printable

_Written = Literal["output", "recipe"]
_OPTIONS: dict[_Written, str] = {"output": "--output", "recipe": "--save-recipe"}


def sources_of(base: Checkpoint) -> tuple[Path, ...]:
    """Return the sources of a checkpoint: its root, and all that its links lead to."""
    folders = [entry.source.parent for entry in base.entries] if base.is_folder else []
    return tuple(dict.fromkeys((base.root, *folders, *(entry.source for entry in base.entries))))


def check_outside_sources(
    sources: Iterable[Path], place: Path, what: _Written = "output", *, is_folder: bool = False
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


def check_folder(folder: Path, names: tuple[str, ...], read: Checkpoint, *, force: bool) -> None:
    """Raise where the named files cannot be written into `folder`, or what is read is there."""
    for place in (folder, *(folder / name for name in names)):
        check_outside_sources(sources_of(read), place)
    if folder.exists() and not folder.is_dir():
        raise OutputExists(
            f"`{printable(folder)}` is a file, the output is a folder", "choose another `--output`"
        )
    for name in names:
        if os.path.lexists(folder / name) and not force:
            raise OutputExists(
                f"`{printable(folder / name)}` exists",
                "choose another `--output`, or overwrite it with `--force`",
            )
    _check_writable(folder if folder.exists() else folder.parent)


def check_file(path: Path, read: Checkpoint, *, force: bool, what: _Written = "output") -> None:
    """Raise where a file cannot be written, or what is read is there; nothing is touched."""
    check_outside_sources(sources_of(read), path, what)
    if path.is_dir():
        raise OutputExists(f"`{printable(path)}` is a folder, not a file")
    if os.path.lexists(path) and not force:
        raise OutputExists(f"`{printable(path)}` exists", "overwrite it with `--force`")
    _check_writable(path.parent)


def _check_writable(folder: Path) -> None:
    if not folder.is_dir():
        raise RequestError(
            f"there is no folder `{printable(folder)}` to write into", "create it first"
        )
    check_writable(folder)
