"""Work on files that goes on while something else is computed."""

import os
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event
from typing import ParamSpec, TypeVar

from loco_cli.checkpoint.staging import sync_file

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
        return self._remember(self._workers.submit(work, *args, **kwargs))

    def flush(self, path: Path, after: Future | None = None) -> None:
        """Have a file flushed to disk, when the work `after` is done."""
        self._remember(self._flusher.submit(_flush, path, after))

    def raise_failure(self) -> None:
        """Raise what went wrong so far, if anything did."""
        for future in self._futures:
            if future.done():
                future.result()

    def finish(self) -> None:
        """Wait until all is done; raise as soon as something goes wrong."""
        wait(self._futures, return_when=FIRST_EXCEPTION)
        self.raise_failure()

    def _remember(self, future: "Future[_T]") -> "Future[_T]":
        self._futures.append(future)
        return future


def _flush(path: Path, after: Future | None) -> None:
    if after:
        after.result()
    sync_file(path)
