"""Checks that keep an output from overwriting its sources, or other files without `--force`."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from loco_cli.checkpoint.layout import Checkpoint
from loco_cli.checkpoint.staging import check_writable
from loco_cli.errors import OutputExists, RequestError, printable

_Role = Literal["output", "recipe"]
_OPTIONS: dict[_Role, str] = {"output": "--output", "recipe": "--save-recipe"}


def sources_of(base: Checkpoint) -> tuple[Path, ...]:
    """Return the sources of a checkpoint: its root, its files, and the targets of its links."""
    folders = [entry.source.parent for entry in base.entries] if base.is_folder else []
    return tuple(dict.fromkeys((base.root, *folders, *(entry.source for entry in base.entries))))


def check_outside_sources(
    sources: Iterable[Path], place: Path, role: _Role = "output", *, is_folder: bool = False
) -> None:
    """
    Check that a path to write is not a source and not inside one.

    Args:
        sources: The files and folders that are read.
        place: The path to write.
        role: The role of the path, for the message.
        is_folder: The path is replaced as a folder, so it must not contain a source either.

    Raises:
        OutputExists: The path is a source, is inside one, or contains one.
    """
    # a rename replaces a link itself, not the file that it leads to
    places = (place.resolve(), place.parent.resolve() / place.name)
    for source in sources:
        real = source.resolve()
        if real in places:
            relation = "is the input"
        elif real.is_dir() and any(there.is_relative_to(real) for there in places):
            relation = "is inside the input"
        elif is_folder and any(real.is_relative_to(there) for there in places):
            relation = "contains the input"
        else:
            continue
        raise OutputExists(
            f"the {role} `{printable(place)}` {relation} `{printable(source)}`, "
            "which must not change",
            f"choose another `{_OPTIONS[role]}`",
        )


def check_folder(folder: Path, names: tuple[str, ...], read: Checkpoint, *, force: bool) -> None:
    """
    Check that files can be written into a folder; nothing is written.

    Args:
        folder: The folder, which is created later if it is missing.
        names: The names of the files.
        read: The checkpoint that is read.
        force: Existing files may be replaced.

    Raises:
        OutputExists: A file exists, or is part of `read`.
        RequestError: The folder that would contain `folder` does not exist.
        MachineError: The folder cannot be written.
    """
    for place in (folder, *(folder / name for name in names)):
        check_outside_sources(sources_of(read), place)
    if folder.exists() and not folder.is_dir():
        raise OutputExists(
            f"`{printable(folder)}` is a file, but the output must be a folder",
            "choose another `--output`",
        )
    for name in names:
        if os.path.lexists(folder / name) and not force:
            raise OutputExists(
                f"`{printable(folder / name)}` exists",
                "choose another `--output`, or overwrite it with `--force`",
            )
    _check_writable(folder if folder.exists() else folder.parent)


def check_file(path: Path, read: Checkpoint, *, force: bool, role: _Role = "output") -> None:
    """Check that a file can be written, and raise as `check_folder` does; nothing is written."""
    check_outside_sources(sources_of(read), path, role)
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
