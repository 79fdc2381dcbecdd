"""Small files beside a result: sheets, reports, documents, written whole or not at all."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from loco_cli.checkpoint.staging import (
    defer_sigint,
    new_file,
    put_files,
    put_folder,
    staged_folder,
    staging,
    write_errors,
)


def write_folder(folder: Path, contents: Mapping[str, str | bytes]) -> tuple[Path, ...]:
    """
    Write the named files into `folder`, which is made if it is not there; return their paths.

    All of them appear, or none does. Raises MachineError where they cannot be written.
    """
    with defer_sigint(), staging(folder) as staged:
        for name, content in contents.items():
            _write(staged / name, content)
        if folder.is_dir():
            put_files({staged / name: folder / name for name in contents})
        else:
            put_folder(staged, folder)
    return tuple(folder / name for name in contents)


def write_new(path: Path, content: str | bytes) -> None:
    """Write a file, in place of one that may be there; raises MachineError."""
    with defer_sigint(), staging(path) as staged:
        _write(staged / path.name, content)
        put_files({staged / path.name: path})


@contextmanager
def written_on_success(path: Path | None, content: str | bytes) -> Iterator[None]:
    """
    Write a file that gets its name when all that is done meanwhile has succeeded; None is no file.

    Ctrl-C comes too late when files that are written meanwhile are being given their names.
    Raises MachineError where it cannot be written.
    """
    if path is None:
        with defer_sigint():
            yield
        return
    with defer_sigint(), staged_folder(path) as folder:
        with write_errors(path):
            _write(folder / path.name, content)
        yield
        with write_errors(path):
            put_files({folder / path.name: path})


def _write(path: Path, content: str | bytes) -> None:
    with new_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
