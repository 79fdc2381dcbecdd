"""
Files that appear under their final names only when they are whole.

Everything is written into a hidden folder beside its place, on the same disk, flushed, and then
renamed. Whatever goes wrong, Ctrl-C included, that folder goes, and what was there before stays.
Ctrl-C while files are renamed comes too late: what is begun in `defer_sigint` is ended. A program
that is killed leaves the folder behind; as long as it lives it holds a lock on it, so that the next
one knows which of them to remove. Locks are those of `flock`: nothing is written for them, and
where a system has none there are none.
"""

import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from loco_cli.errors import MachineError, format_size, printable

_PATIENCE_SECONDS = 30.0  # for others to rename a few files
_SPARE_BYTES = 16 << 20  # slack for directories, file-system journal and the report


class _Finish:
    """Whether renaming has begun, after which Ctrl-C is not heard."""

    def __init__(self) -> None:
        self.has_begun = False


_finish: ContextVar[_Finish | None] = ContextVar("_finish", default=None)


@contextmanager
def defer_sigint() -> Iterator[None]:
    """
    Let what is done inside be ended from the first renaming on, past a Ctrl-C that comes too late.

    All files that belong together are then there, and the command can say so. Before that Ctrl-C
    is what it always is; so it is outside of the main thread, where Python hears none.
    """
    heard: Any = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if _finish.get() or not is_main or not callable(heard):
        yield
        return
    finish = _Finish()
    token = _finish.set(finish)
    signal.signal(signal.SIGINT, lambda *caught: None if finish.has_begun else heard(*caught))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, heard)
        _finish.reset(token)


@contextmanager
def staging(output: Path) -> Iterator[Path]:
    """
    Give an empty folder beside `output`, and remove it at the end.

    Raises:
        MachineError: the folder cannot be made, or writing fails (a full disk, a file system
            that is read-only).
    """
    with write_errors(output), staged_folder(output) as folder:
        yield folder


@contextmanager
def write_errors(output: Path) -> Iterator[None]:
    """Turn what the operating system says of writing into a MachineError that names `output`."""
    try:
        yield
    except OSError as error:
        raise MachineError(
            f"cannot write `{printable(output)}`: {error.strerror or error}"
        ) from error


@contextmanager
def staged_folder(output: Path) -> Iterator[Path]:
    """Give an empty folder as `staging` does, for work that has other errors too."""
    with write_errors(output):
        _remove_orphans(output)
    with ExitStack() as stack:
        with write_errors(output):
            new = _enter_new_folder(output, stack)
        yield new


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """
    Let one program at a time look at what is in `folder` and rename files there.

    Raises:
        MachineError: another has not finished within half a minute.
    """
    try:
        lock = _await_lock(folder)
    except BlockingIOError as error:
        raise MachineError(f"another program is renaming files in `{printable(folder)}`") from error
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def left_behind(output: Path) -> tuple[Path, ...]:
    """Return the staging folders beside `output`, the newest first: of killed programs, or not."""
    named = re.compile(re.escape(_prefix(output)) + r"[0-9a-f]{8}\.partial")
    try:
        found = [path for path in output.parent.iterdir() if named.fullmatch(path.name)]
        return tuple(sorted(found, key=lambda path: -path.lstat().st_mtime_ns))
    except OSError:  # one may end while we look
        return ()


@contextmanager
def new_file(path: Path, *, is_synced: bool = True) -> Iterator[BinaryIO]:
    """Open a file that does not exist yet, make its folders, and flush it to disk at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        yield file
        if is_synced:
            file.flush()
            os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Flush a file that was written through another handle to disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def check_writable(folder: Path) -> None:
    """Raise MachineError where no file can be made in `folder`; nothing is seen of the attempt."""
    try:
        # permissions alone do not tell: a file system may be read-only, and root may do anything
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise MachineError(
            f"cannot write in folder `{printable(folder)}`: "
            f"{(error.strerror or str(error)).lower()}"
        ) from error


def check_space(folder: Path, n_bytes: int) -> None:
    """Raise MachineError where the disk of `folder` has no room for `n_bytes`."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < n_bytes + _SPARE_BYTES:
        raise MachineError(
            f"the disk of `{printable(folder)}` is too full: "
            f"{format_size(n_bytes + _SPARE_BYTES)} are needed, "
            f"{format_size(free_bytes)} are free"
        )


def put_folder(staged: Path, output: Path) -> None:
    """Rename a staged folder to `output`; a folder that was there is gone only after that."""
    for folder, _, _ in os.walk(staged):
        _sync_folder(Path(folder))
    _put({staged: output}, staged.parent / "old", ())


def put_files(finals: Mapping[Path, Path], stale: tuple[Path, ...] = ()) -> None:
    """
    Rename staged files to their final names, in order, and take away the files named `stale`.

    What is there already goes in the opposite order. If a step fails, the steps before it are
    taken back.
    """
    _put(finals, next(iter(finals)).parent.parent / "old", stale)


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


def replace_file(path: Path, content: bytes, *, is_private: bool = False) -> None:
    """
    Write a small file that nobody sees half of; raises OSError, and what was there stays.

    It is not flushed to disk, as a file of `write_new` is. A private one only its owner can read.
    """
    partial = path.with_name(f".{path.name[:80]}.{token_hex(4)}.partial")
    mode = 0o600 if is_private else 0o666
    try:
        with open(partial, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


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


def _put(finals: Mapping[Path, Path], attic: Path, stale: tuple[Path, ...]) -> None:
    attic.mkdir()
    finish = _finish.get() or _Finish()
    had_begun, finish.has_begun = finish.has_begun, True
    done: list[tuple[Path, Path]] = []  # (where it was, where it is now)
    try:
        old = (path for path in (*reversed([*finals.values()]), *stale) if os.path.lexists(path))
        for before, now in (*((path, attic / path.name) for path in old), *finals.items()):
            done.append((before, now))  # first: an interrupt in between is taken back too
            before.rename(now)
    except BaseException:
        for before, now in reversed(done):
            if os.path.lexists(now) and not os.path.lexists(before):
                now.rename(before)
        finish.has_begun = had_begun
        raise
    _sync_folder(next(iter(finals.values())).parent)


def _prefix(output: Path) -> str:
    return f".{output.name[:80]}."


def _enter_new_folder(output: Path, stack: ExitStack) -> Path:
    while True:
        folder = output.parent / f"{_prefix(output)}{token_hex(4)}.partial"
        stack.callback(_remove, folder)
        folder.mkdir()
        lock = _await_lock(folder)
        if lock is not None:
            stack.callback(os.close, lock)
        try:
            (folder / "new").mkdir()
            return folder / "new"
        except FileNotFoundError:  # another program took it for an orphan before it was locked
            continue


def _remove_orphans(output: Path) -> None:
    """Remove what killed programs left, but for files that were to be replaced and were not yet."""
    for folder in left_behind(output):
        try:
            lock = _lock_folder(folder)
        except BlockingIOError:  # it lives
            continue
        if lock is None:
            continue
        try:
            if not (any(folder.glob("new/*")) and any(folder.glob("old/*"))):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except KeyboardInterrupt:  # begun is done, or half of a model stays behind hidden
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _await_lock(folder: Path) -> int | None:
    """Return a lock as `_lock_folder` does, and wait for half a minute where another has it."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return _lock_folder(folder)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
        time.sleep(0.01)


def _lock_folder(folder: Path) -> int | None:
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


def _write(path: Path, content: str | bytes) -> None:
    with new_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
