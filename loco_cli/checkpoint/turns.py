"""
Locks on folders, which end with the program that holds them, however it ends.

They are those of `flock`: nothing is written for them, and where a system has none there are none.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loco_cli.errors import MachineError, printable

_PATIENCE_SECONDS = 30.0  # for others to rename a few files


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """
    Let one program at a time look at what is in `folder` and rename files there.

    Raises:
        MachineError: another has not finished within half a minute.
    """
    try:
        lock = await_lock(folder)
    except BlockingIOError as error:
        raise MachineError(f"another program is renaming files in `{printable(folder)}`") from error
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def await_lock(folder: Path) -> int | None:
    """Return a lock as `lock_folder` does, and wait for half a minute where another has it."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return lock_folder(folder)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
        time.sleep(0.01)


def lock_folder(folder: Path) -> int | None:
    """
    Return a handle that locks `folder` until it is closed, None where the system has no locks.

    Raises BlockingIOError where another program holds the lock.
    """
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise
    except OSError:
        os.close(handle)
        return None
    return handle
