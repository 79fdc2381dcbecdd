"""
A base on its way into a staged output, in the background, while its edit is still being solved.

Which ranges will be replaced is known before what they become: the copy leaves them open. Every
file of the base is hashed on the way, and where the output keeps all of its bytes that one hash
serves for both.
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
_N_THREADS = min(4, os.cpu_count() or 1)  # one reads, hashes or writes at the speed of a disk


class Background:
    """
    A few threads that copy and hash, and one that flushes files to disk as they are finished.

    Left by an error, Ctrl-C included, it sets `stop`, which the work looks at between two chunks,
    and waits until nothing is touched any more.
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
        """Begin some work and return its future."""
        future = self._workers.submit(work, *args, **kwargs)
        self._futures.append(future)
        return future

    def flush(self, path: Path, after: Future | None = None) -> None:
        """Have a file flushed to disk, when the work `after` is done."""
        self._futures.append(self._flusher.submit(_flush, path, after))

    def raise_failure(self) -> None:
        """Raise what went wrong so far, if anything did."""
        for future in self._futures:
            if future.done():
                future.result()

    def finish(self) -> None:
        """Wait until all is done; raise as soon as something goes wrong."""
        wait(self._futures, return_when=FIRST_EXCEPTION)
        self.raise_failure()


@dataclass(frozen=True)
class FileCopy:
    """
    One file of a base: `FileCopy(entry, Path("staged/unet/config.json"))`.

    Without a target it is only hashed; the ranges that `edit` will replace are left open.
    """

    entry: Entry
    target: Path | None = None
    edit: FileEdit | None = None


class BaseCopy:
    """
    A base that is being copied; every target is there from the start.

    Raises:
        CheckpointError: a file has changed since the base was opened.
        OSError: a target cannot be made.
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
        """Wait for the end, and return the digest of every file of the base, by its path."""
        for work in self._written:
            work.result()
        return {path: work.result() for path, work in self._digests.items()}

    def check_unchanged(self) -> None:
        """Raise CheckpointError where a file of the base was written to since the copy began."""
        for entry, identity in self._identities.items():
            if _identity(entry.source) != identity:
                raise CheckpointError(f"`{printable(entry.source)}` changed while it was read")


def _check_as_opened(copy: FileCopy) -> None:
    source = copy.entry.source
    is_same = source.stat().st_size == copy.entry.n_bytes
    if not is_same or (copy.edit and read_header(source) != copy.edit.file.header):
        raise CheckpointError(f"`{printable(source)}` changed since it was opened")


def _share(copy: FileCopy) -> bool:
    """Make the target, and return whether it holds all of the base's bytes already."""
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
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _flush(path: Path, after: Future | None) -> None:
    if after:
        after.result()
    sync_file(path)
