"""Small files, written whole or not at all."""

import signal

import pytest

from loco_cli.checkpoint.staging import write_folder, write_new, written_on_success
from loco_cli.errors import MachineError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_made(tmp_path):
    """
    The folder appears with all its files, and nothing beside it.
    """
    paths = write_folder(tmp_path / "found", {"a.json": "{}", "b.png": b"\x89PNG"})

    assert paths == (tmp_path / "found" / "a.json", tmp_path / "found" / "b.png")
    assert paths[1].read_bytes() == b"\x89PNG"
    assert names(tmp_path) == ["found"]
    assert names(tmp_path / "found") == ["a.json", "b.png"]


def test_other_files_of_a_folder_stay(tmp_path):
    """
    In a folder that is there, files of the same name are replaced and others left alone.
    """
    (tmp_path / "a.json").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")

    write_folder(tmp_path, {"a.json": "new"})

    assert (tmp_path / "a.json").read_text() == "new"
    assert names(tmp_path) == ["a.json", "notes.txt"]


def test_all_files_appear_or_none(tmp_path):
    """
    Where one file cannot be written nothing is left behind.
    """
    with pytest.raises(TypeError):
        write_folder(tmp_path / "found", {"a.json": "{}", "b.png": 3})

    assert names(tmp_path) == []


def test_a_file_is_written(tmp_path):
    """
    A file takes the place of one that was there.
    """
    (tmp_path / "r.yaml").write_text("old")

    write_new(tmp_path / "r.yaml", "loco: 1\n")

    assert (tmp_path / "r.yaml").read_text() == "loco: 1\n"
    assert names(tmp_path) == ["r.yaml"]


def test_a_place_below_a_file_is_one_sentence(tmp_path):
    """
    What cannot be written says so, with its path.
    """
    (tmp_path / "file").write_text("")

    with pytest.raises(MachineError, match=r"cannot write `.*file/r.yaml`: "):
        write_new(tmp_path / "file" / "r.yaml", "loco: 1\n")


def test_a_promised_file_comes_with_what_it_was_promised_with(tmp_path):
    """
    The file has its name when the rest has succeeded, and is gone when that fails.
    """
    with written_on_success(tmp_path / "r.yaml", "loco: 1\n"):
        assert not (tmp_path / "r.yaml").exists()
    with pytest.raises(KeyboardInterrupt), written_on_success(tmp_path / "s.yaml", "loco: 1\n"):
        raise KeyboardInterrupt
    with written_on_success(None, "loco: 1\n"):
        pass

    assert (tmp_path / "r.yaml").read_text() == "loco: 1\n"
    assert names(tmp_path) == ["r.yaml"]


@pytest.fixture
def hears_interrupts():
    """Python's own answer to Ctrl-C, which a shell turns off for background commands."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("hears_interrupts")
def test_an_interrupt_between_two_that_belong_together_comes_too_late(tmp_path):
    """
    Ctrl-C before the first file has its name leaves none, after it all; then it is heard again.
    """

    def interrupted(name, *, is_late):
        with written_on_success(tmp_path / f"{name}.yaml", "loco: 1\n"):
            if is_late:
                write_new(tmp_path / name, "output")
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupted("early", is_late=False)
    interrupted("late", is_late=True)

    assert names(tmp_path) == ["late", "late.yaml"]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_promise_that_cannot_be_kept_is_refused_first(tmp_path):
    """
    What cannot be written is told before anything else is done.
    """
    done = []

    with (
        pytest.raises(MachineError, match=r"cannot write `.*file/r.yaml`: "),
        written_on_success(tmp_path / "file" / "r.yaml", "loco: 1\n"),
    ):
        done.append("the rest")

    assert done == []
