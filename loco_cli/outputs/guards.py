"""Where files may go that are no edited checkpoint: never into what is read."""

import os
from pathlib import Path

from loco_cli.checkpoint.layout import Checkpoint
from loco_cli.checkpoint.staging import check_writable
from loco_cli.errors import OutputExists, RequestError, printable
from loco_cli.outputs.apart import Written, check_outside_sources, sources_of


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


def check_file(path: Path, read: Checkpoint, *, force: bool, what: Written = "output") -> None:
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
