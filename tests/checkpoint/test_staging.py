"""Outputs that appear whole or not at all."""

import pytest

from loco_cli.checkpoint.staging import check_space, new_file, put_files, put_folder, staging
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
