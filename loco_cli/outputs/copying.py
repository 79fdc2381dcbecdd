"""
The copy of a base in the background, while the edit is still being solved.

The edited ranges are known before their content, so the copy skips them. Every file of the base is
hashed, and the hash of an unedited file also holds for the output.
"""

import os
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import ParamSpec, TypeVar

from loco_cli.checkpoint.clone import copy_ranges, share_blocks
from loco_cli.checkpoint.edits import FileEdit
from loco_cli.checkpoint.files import Entry
from loco_cli.checkpoint.header import read_header
from loco_cli.checkpoint.patcher import Digest, hash_file
from loco_cli.checkpoint.staging import new_file, sync_file
from loco_cli.errors import CheckpointError, printable

_P = ParamSpec("_P")
_T = TypeVar("_T")
_N_THREADS = min(4, os.cpu_count() or 1)  # four threads keep a fast disk busy


class Background:
    """
    Threads that copy and hash, and one thread that flushes finished files to disk.

    On exit, also after an error or Ctrl-C, it sets `stop`, which the work checks between chunks,
    and waits for all threads to end.
    """

    def __init__(self) -> None:
        self.stop = Event()
        self._workers = ThreadPoolExecutor(_N_THREADS)
        self._flusher = ThreadPoolExecutor(1)
        self._futures: list[Future] = []

    def __enter__(self) -> "Background":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for threads in (self._workers, self._flusher):
            threads.shutdown(cancel_futures=True)

    def start(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> "Future[_T]":
        """Start work in a thread, and return its future."""
        future = self._workers.submit(work, *args, **kwargs)
        self._futures.append(future)
        return future

    def flush(self, path: Path, after: Future | None = None) -> None:
        """Flush a file to disk in the background, once the work `after` is done."""
        self._futures.append(self._flusher.submit(_flush, path, after))

    def raise_failure(self) -> None:
        """Raise the error of the first failed work, if any has failed yet."""
        for future in self._futures:
            if future.done():
                future.result()

    def finish(self) -> None:
        """Wait for all work; raise as soon as any of it fails."""
        wait(self._futures, return_when=FIRST_EXCEPTION)
        self.raise_failure()


@dataclass(frozen=True)
class FileCopy:
    """
    One file of a base: `FileCopy(entry, Path("staged/unet/config.json"))`.

    A file without a target is only hashed. The copy skips the ranges that `edit` replaces.
    """

    entry: Entry
    target: Path | None = None
    edit: FileEdit | None = None


class BaseCopy:
    """
    The running copy of a base; all targets exist from the start.

    Args:
        copies: The files of the base.
        background: The threads that copy and hash.

    Raises:
        CheckpointError: A file has changed since the base was opened.
        OSError: A target cannot be created.
    """

    def __init__(self, copies: tuple[FileCopy, ...], background: Background) -> None:
        self._identities = {copy.entry: _identity(copy.entry.source) for copy in copies}
        for copy in copies:
            _check_as_opened(copy)
        self._digests: dict[str, Future[Digest]] = {}
        self._written: list[Future[None]] = []
        for copy in sorted(copies, key=lambda copy: -copy.entry.n_bytes):
            stop = background.stop
            self._digests[copy.entry.path] = background.start(hash_file, copy.entry.source, stop)
            if copy.target:
                self._written.append(background.start(_fill, copy, _share(copy), stop))
                background.flush(copy.target, after=self._written[-1])

    def digests(self) -> dict[str, Digest]:
        """Wait for the copy, and return the digests of all files of the base by path."""
        for work in self._written:
            work.result()
        return {path: work.result() for path, work in self._digests.items()}

    def check_unchanged(self) -> None:
        """Raise CheckpointError if a file of the base has changed since the copy began."""
        for entry, identity in self._identities.items():
            if _identity(entry.source) != identity:
                raise CheckpointError(f"`{printable(entry.source)}` changed while it was read")


def _check_as_opened(copy: FileCopy) -> None:
    source = copy.entry.source
    is_same = source.stat().st_size == copy.entry.n_bytes
    if not is_same or (copy.edit and read_header(source) != copy.edit.file.header):
        raise CheckpointError(f"`{printable(source)}` changed since it was opened")


def _share(copy: FileCopy) -> bool:
    """Create the target; return True if it shares the blocks of the base and is complete."""
    assert copy.target
    edit = copy.edit
    head, begin = (edit.head, edit.file.header.data_start) if edit else (b"", 0)
    with new_file(copy.target, is_synced=False) as file:
        return share_blocks(copy.entry.source, file, head, begin)


def _fill(copy: FileCopy, is_shared: bool, stop: Event) -> None:
    assert copy.target
    if is_shared:
        return
    edit = copy.edit
    with copy.target.open("r+b") as file:
        if edit:
            file.write(edit.head)
        ranges = edit.kept if edit else [(0, copy.entry.n_bytes)]
        copy_ranges(copy.entry.source, file, ranges, edit.shift if edit else 0, stop)


def _identity(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _flush(path: Path, after: Future | None) -> None:
    if after:
        after.result()
    sync_file(path)
