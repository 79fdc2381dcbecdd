"""Atomic writes of outputs: complete or absent."""

import os
import re
import signal

import pytest

from loco_cli.checkpoint.staging import (
    check_space,
    check_writable,
    folder_lock,
    left_behind,
    new_file,
    put_files,
    put_folder,
    staging,
)
from loco_cli.errors import MachineError


def write(path, text):
    with new_file(path) as file:
        file.write(text.encode())


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_failure_leaves_no_files(error, tmp_path):
    """
    After any failure, Ctrl-C included, the folder is empty.
    """

    def interrupted():
        with staging(tmp_path / "out") as staged:
            write(staged / "out" / "half", "half")
            raise error

    with pytest.raises(error):
        interrupted()

    assert list(tmp_path.iterdir()) == []


def test_reports_a_full_disk(tmp_path, golden):
    """
    An error of the operating system becomes a MachineError that names the output.
    """
    with golden.raises(MachineError, "out"), staging(tmp_path / "out"):
        raise OSError(28, "No space left on device")
    with pytest.raises(MachineError) as caught:
        check_space(tmp_path, 10**15)
    golden(re.sub(r"[\d.]+ GB free", "N GB free", caught.value.message))


def texts(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def test_replaces_the_old_output(tmp_path):
    """
    A folder is replaced as a whole, a file with the stale files beside it.
    """
    for name in ("out/old", "a", "a.html"):
        write(tmp_path / name, "old")

    with staging(tmp_path / "out") as staged:
        write(staged / "out" / "new", "new")
        put_folder(staged / "out", tmp_path / "out")
    with staging(tmp_path / "a") as staged:
        write(staged / "a", "new")
        put_files({staged / "a": tmp_path / "a"}, stale=(tmp_path / "a.html",))

    assert texts(tmp_path) == {"out/new": "new", "a": "new"}


def test_a_failed_rename_is_reverted(tmp_path):
    """
    If the last of several files cannot be renamed, all old files are restored.
    """
    for name in ("a", "b"):
        write(tmp_path / name, f"old {name}")

    def half_missing():
        with staging(tmp_path / "a") as staged:
            write(staged / "a", "new a")
            put_files({staged / "a": tmp_path / "a", staged / "missing": tmp_path / "b"})

    with pytest.raises(MachineError):
        half_missing()

    assert texts(tmp_path) == {"a": "old a", "b": "old b"}


def orphan(output, *files):
    """Create the staging folder of a killed program."""
    folder = output.parent / f".{output.name}.0123abcd.partial"
    (folder / "new").mkdir(parents=True)
    for file in files:
        write(folder / file, file)
    return folder


@pytest.mark.linux  # without locks, a folder of a running program looks the same
def test_removes_the_folders_of_killed_programs(tmp_path):
    """
    The next program removes such a folder, unless it holds the only copy of an output.
    """
    cases = {
        (): False,
        ("new/out",): False,
        ("old/out",): False,  # its replacement was renamed
        ("new/out.json", "old/out"): True,
    }
    other = orphan(tmp_path / "out2")
    for files, is_kept in cases.items():
        folder = orphan(tmp_path / "out", *files)

        with staging(tmp_path / "out"):
            assert folder.exists() is is_kept, files

    assert other.exists()


def test_keeps_the_folders_of_running_programs(tmp_path):
    """
    Two programs that write the same output do not remove each other's files.
    """
    with staging(tmp_path / "out") as mine:
        write(mine / "half", "half")
        with staging(tmp_path / "out") as yours:
            assert mine != yours
            assert set(left_behind(tmp_path / "out")) == {mine.parent, yours.parent}
        assert (mine / "half").read_text() == "half"

    assert left_behind(tmp_path / "out") == ()


@pytest.mark.linux  # `flock` and SIGALRM
def test_a_lock_waits_for_the_other_program(tmp_path):
    """
    A program waits until another one has released the lock, and releases its own at the end.
    """
    fcntl = pytest.importorskip("fcntl")
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    signal.signal(signal.SIGALRM, lambda *_: os.close(handle))
    signal.setitimer(signal.ITIMER_REAL, 0.05)

    with folder_lock(tmp_path):
        third = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(third, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(third, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(third)


@pytest.mark.linux  # `/proc`
def test_checks_a_folder_by_writing(tmp_path, golden):
    """
    The check creates a file, because permissions are not enough, and leaves no trace.
    """
    before = tmp_path.stat().st_mtime_ns

    check_writable(tmp_path)

    assert tmp_path.stat().st_mtime_ns == before
    with golden.raises(MachineError, "/proc"):
        check_writable(type(tmp_path)("/proc"))


def test_a_new_file_is_flushed_to_disk(tmp_path, monkeypatch):
    """
    All bytes of a new file are on disk when its block ends, before it can be renamed.
    """
    sizes, fsync = [], os.fsync

    def record(handle):
        sizes.append(os.fstat(handle).st_size)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", record)  # the system reports no event for it

    write(tmp_path / "a", "text")

    assert sizes == [4]
