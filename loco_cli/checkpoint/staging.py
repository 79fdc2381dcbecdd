"""
Atomic writes: files appear under their final names only once they are complete.

Files are written into a hidden folder beside the output, on the same disk, flushed, and then
renamed. After any failure, Ctrl-C included, the folder is removed and the old output stays.
`defer_sigint` ignores Ctrl-C once renaming has begun. A killed program leaves its folder behind.
A running program holds a lock on its folder, so the next one knows which folders to remove. Locks
use `flock`, which writes no files. Windows has none: there, killed programs leave folders for good.
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

_LOCK_TIMEOUT_SECONDS = 30.0  # another program needs far less to rename a few files
_SPARE_BYTES = 16 << 20  # slack for directories, file-system journal and the report


class _Finish:
    """The state of a write; after `has_begun`, renaming runs to its end despite Ctrl-C."""

    def __init__(self) -> None:
        self.has_begun = False


_finish: ContextVar[_Finish | None] = ContextVar("_finish", default=None)


@contextmanager
def defer_sigint() -> Iterator[None]:
    """
    Ignore Ctrl-C in this block once renaming has begun.

    All files of an output then appear, and the command reports success. Before the first rename,
    Ctrl-C works as usual. Outside of the main thread this does nothing, as Python delivers no
    signals there.
    """
    handler: Any = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if _finish.get() or not is_main or not callable(handler):
        yield
        return
    finish = _Finish()
    token = _finish.set(finish)
    signal.signal(signal.SIGINT, lambda *caught: None if finish.has_begun else handler(*caught))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        _finish.reset(token)


@contextmanager
def staging(output: Path) -> Iterator[Path]:
    """
    Create an empty folder beside `output`, and remove it at the end of the block.

    Args:
        output: The final path of the file or folder to write.

    Yields:
        The empty folder, on the same disk as `output`.

    Raises:
        MachineError: The folder cannot be created, or an OSError is raised in the block (a full
            disk, a read-only file system).
    """
    with write_errors(output), staged_folder(output) as folder:
        yield folder


@contextmanager
def write_errors(output: Path) -> Iterator[None]:
    """Turn an operating system error during writing into a MachineError that names `output`."""
    try:
        yield
    except OSError as error:
        raise MachineError(
            f"cannot write `{printable(output)}`: {error.strerror or error}"
        ) from error


@contextmanager
def staged_folder(output: Path) -> Iterator[Path]:
    """Create an empty folder as `staging` does, but pass on every OSError of the block."""
    with write_errors(output):
        _remove_orphans(output)
    with ExitStack() as stack:
        with write_errors(output):
            new = _enter_new_folder(output, stack)
        yield new


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """
    Hold the lock that lets one program at a time check and rename files in `folder`.

    Raises:
        MachineError: Another program has held the lock for half a minute.
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
    """Return the staging folders beside `output`, of killed and running programs, newest first."""
    named = re.compile(re.escape(_prefix(output)) + r"[0-9a-f]{8}\.partial")
    try:
        folders = [path for path in output.parent.iterdir() if named.fullmatch(path.name)]
        return tuple(sorted(folders, key=lambda path: -path.lstat().st_mtime_ns))
    except OSError:  # a running program may remove its folder during the search
        return ()


@contextmanager
def new_file(path: Path, *, is_synced: bool = True) -> Iterator[BinaryIO]:
    """Create a file and its folders, open it, and flush it to disk at the end of the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        yield file
        if is_synced:
            file.flush()
            os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Flush a file to disk that was written through another handle."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def check_writable(folder: Path) -> None:
    """Raise MachineError if no file can be created in `folder`; the check leaves no trace."""
    try:
        # permissions are not enough: the file system may be read-only, and root ignores them
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise MachineError(
            f"cannot write in folder `{printable(folder)}`: "
            f"{(error.strerror or str(error)).lower()}"
        ) from error


def check_space(folder: Path, n_bytes: int) -> None:
    """Raise MachineError if the disk of `folder` lacks space for `n_bytes`."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < n_bytes + _SPARE_BYTES:
        raise MachineError(
            f"the disk of `{printable(folder)}` is too full: "
            f"{format_size(n_bytes + _SPARE_BYTES)} needed, "
            f"{format_size(free_bytes)} free"
        )


def put_folder(staged: Path, output: Path) -> None:
    """Rename a staged folder to `output`, and only then remove the old folder."""
    for folder, _, _ in os.walk(staged):
        _sync_folder(Path(folder))
    _put({staged: output}, staged.parent / "old", ())


def put_files(finals: Mapping[Path, Path], stale: tuple[Path, ...] = ()) -> None:
    """
    Rename staged files to their final names, in order.

    Existing files are first moved away, in the opposite order. If a step fails, the steps before it
    are reverted.

    Args:
        finals: The staged files, each with its final path in the same folder.
        stale: Further files of the old output to remove.
    """
    _put(finals, next(iter(finals)).parent.parent / "old", stale)


def write_folder(folder: Path, contents: Mapping[str, str | bytes]) -> tuple[Path, ...]:
    """
    Write files into `folder`, which is created if it is missing; all of them appear, or none.

    Args:
        folder: The folder to write.
        contents: The content of each file by its name.

    Returns:
        The paths of the files.

    Raises:
        MachineError: A file cannot be written.
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
    """Write a file, or replace it; raise MachineError if that fails."""
    with defer_sigint(), staging(path) as staged:
        _write(staged / path.name, content)
        put_files({staged / path.name: path})


def replace_file(path: Path, content: bytes, *, is_private: bool = False) -> None:
    """
    Replace a small file atomically; on an OSError the old file stays.

    Unlike `write_new`, it does not flush the file to disk. Only the owner can read a private file.
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
    Write a file that appears under its name only if the block succeeds.

    Ctrl-C is ignored once files of the block are being renamed.

    Args:
        path: The file to write; None writes no file.
        content: The content of the file.

    Raises:
        MachineError: The file cannot be written.
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
    done: list[tuple[Path, Path]] = []  # (old path, new path)
    try:
        old = (path for path in (*reversed([*finals.values()]), *stale) if os.path.lexists(path))
        for before, now in (*((path, attic / path.name) for path in old), *finals.items()):
            done.append((before, now))  # before the rename, so that an interrupt in between counts
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
        except FileNotFoundError:  # another program removed it as an orphan before it was locked
            continue


def _remove_orphans(output: Path) -> None:
    """Remove the folders of killed programs, except those that hold the only copy of an output."""
    for folder in left_behind(output):
        try:
            lock = _lock_folder(folder)
        except BlockingIOError:  # its program is running
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
    except KeyboardInterrupt:  # finish, because half a model would stay behind in a hidden folder
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _await_lock(folder: Path) -> int | None:
    """Return a lock as `_lock_folder` does, after a wait of up to half a minute."""
    until = time.monotonic() + _LOCK_TIMEOUT_SECONDS
    while True:
        try:
            return _lock_folder(folder)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
        time.sleep(0.01)


def _lock_folder(folder: Path) -> int | None:
    """
    Return a handle that locks `folder` until it is closed; None if the system has no locks.

    Raises:
        BlockingIOError: Another program holds the lock.
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
