"""Atomic writes of small files."""

import signal

import pytest

from loco_cli.checkpoint.staging import write_folder, write_new, written_on_success
from loco_cli.errors import MachineError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_writes_the_files_of_a_folder(tmp_path):
    """
    A new folder appears with all its files; in an existing one, other files stay.
    """
    paths = write_folder(tmp_path / "found", {"a.json": "{}", "b.png": b"\x89PNG"})

    assert paths == (tmp_path / "found" / "a.json", tmp_path / "found" / "b.png")
    assert paths[1].read_bytes() == b"\x89PNG"
    assert names(tmp_path) == ["found"]
    write_folder(tmp_path / "found", {"a.json": "new"})
    assert paths[0].read_text() == "new"
    write_new(paths[0], "newer")
    assert paths[0].read_text() == "newer"
    assert names(tmp_path / "found") == ["a.json", "b.png"]


def test_all_files_appear_or_none(tmp_path):
    """
    If one file cannot be written, none appears.
    """
    with pytest.raises(TypeError):
        write_folder(tmp_path / "found", {"a.json": "{}", "b.png": 3})

    assert names(tmp_path) == []


def test_a_file_appears_only_on_success(tmp_path):
    """
    The file appears under its name after the block succeeds, and not after a failure.
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
def default_interrupts():
    """Restore Python's handler of Ctrl-C, which shells disable for background commands."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("default_interrupts")
def test_an_interrupt_during_renaming_is_ignored(tmp_path):
    """
    Ctrl-C before the first rename leaves no files, and after it all of them; later it works again.
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


def test_refuses_an_unwritable_file_first(tmp_path):
    """
    A path below a file is refused, by a block of `written_on_success` before it runs.
    """
    (tmp_path / "file").write_text("")
    path, done = tmp_path / "file" / "r.yaml", []

    with pytest.raises(MachineError, match=path.name):
        write_new(path, "loco: 1\n")
    with pytest.raises(MachineError, match=path.name), written_on_success(path, "loco: 1\n"):
        done.append("the rest")

    assert done == []
