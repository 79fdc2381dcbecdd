"""Outputs that appear whole or not at all."""

import os
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
def test_a_failure_leaves_nothing(error, tmp_path):
    """
    Whatever stops the writing, Ctrl-C included, no file is left in the folder.
    """

    def interrupted():
        with staging(tmp_path / "out") as staged:
            write(staged / "out" / "half", "half")
            raise error

    with pytest.raises(error):
        interrupted()

    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told(tmp_path):
    """
    An error of the operating system becomes a sentence that names the output.
    """
    with (
        pytest.raises(MachineError, match=r"cannot write `.*out`: No space left"),
        staging(tmp_path / "out"),
    ):
        raise OSError(28, "No space left on device")
    with pytest.raises(MachineError, match=r"too full: 1000000\.\d+ GB are needed"):
        check_space(tmp_path, 10**15)


def test_a_folder_takes_the_place_of_the_old_one(tmp_path):
    """
    A staged folder replaces what is there as a whole.
    """
    output = tmp_path / "out"
    write(output / "old", "old")

    with staging(output) as staged:
        write(staged / "out" / "new", "new")
        put_folder(staged / "out", output)

    assert [path.name for path in output.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [output]


def test_a_failed_renaming_is_taken_back(tmp_path):
    """
    When the last of several files cannot be put in place, the old ones are all there again.
    """
    for name in ("a", "b"):
        write(tmp_path / name, f"old {name}")

    def half_missing():
        with staging(tmp_path / "a") as staged:
            write(staged / "a", "new a")
            put_files({staged / "a": tmp_path / "a", staged / "missing": tmp_path / "b"})

    with pytest.raises(MachineError, match="No such file"):
        half_missing()

    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a": "old a",
        "b": "old b",
    }


def test_stale_files_go_with_the_old_output(tmp_path):
    """
    What an earlier output had and this one has not is taken away with it.
    """
    for name in ("a", "a.html"):
        write(tmp_path / name, "old")

    with staging(tmp_path / "a") as staged:
        write(staged / "a", "new")
        put_files({staged / "a": tmp_path / "a"}, stale=(tmp_path / "a.html",))

    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new"}


def orphan(output, *files):
    """Leave a staging folder, as a program does that is killed."""
    folder = output.parent / f".{output.name}.0123abcd.partial"
    (folder / "new").mkdir(parents=True)
    for file in files:
        write(folder / file, file)
    return folder


@pytest.mark.parametrize(
    ("files", "is_kept"),
    [
        ((), False),
        (("new/out",), False),
        (("old/out",), False),  # of which the replacement is there
        (("new/out.json", "old/out"), True),
    ],
)
def test_what_a_killed_program_left_goes(files, is_kept, tmp_path):
    """
    The next one removes it, unless it holds what was to be replaced and was not yet.
    """
    folder = orphan(tmp_path / "out", *files)
    other = orphan(tmp_path / "out2")

    with staging(tmp_path / "out"):
        assert folder.exists() is is_kept

    assert other.exists()


def test_what_a_living_program_writes_stays(tmp_path):
    """
    Of two programs that write one output neither removes what the other is writing.
    """
    with staging(tmp_path / "out") as mine:
        write(mine / "half", "half")
        with staging(tmp_path / "out") as yours:
            assert mine != yours
            assert set(left_behind(tmp_path / "out")) == {mine.parent, yours.parent}
        assert (mine / "half").read_text() == "half"

    assert left_behind(tmp_path / "out") == ()


def test_programs_take_turns(tmp_path):
    """
    Who gives files their names waits for another who does, and no longer once that one has ended.
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


def test_a_folder_that_takes_no_files(tmp_path):
    """
    It is tried, since rights alone do not tell, and nothing is seen of the attempt.
    """
    before = tmp_path.stat().st_mtime_ns

    check_writable(tmp_path)

    assert tmp_path.stat().st_mtime_ns == before
    with pytest.raises(MachineError, match=r"^cannot write in folder `/proc`: "):
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
