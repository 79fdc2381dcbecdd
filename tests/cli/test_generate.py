"""`loco generate`, as it is typed."""

import json

import pytest
from typer.testing import CliRunner

from loco_cli.cli.app import app


def generate(*arguments):
    return CliRunner().invoke(app, ["generate", *arguments])


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_picture_is_drawn_into_the_terminal(here):
    """
    Without `--output` the picture is half blocks, 24 lines of them, and its prompt below.
    """
    result = generate("a cat", "--steps", "1")

    assert result.exit_code == 0, result.stderr
    *blocks, last = result.stdout.splitlines()
    assert len(blocks) == 24
    assert set("".join(blocks)) == {"▀"}
    assert last == "a cat, seed 0"
    assert list(here.iterdir()) == []


def test_pictures_are_written(here):
    """
    With `--output` there is one PNG, stdout is empty, and the document names the file.
    """
    words = generate("a cat", "--steps", "1", "--output", "cat.png")
    document = generate("a cat", "a dog", "--seeds", "2", "--steps", "1", "-o", "all.png", "--json")

    assert words.exit_code == document.exit_code == 0
    assert words.stdout == ""
    assert "wrote cat.png" in words.stderr
    found = json.loads(document.stdout)
    assert found["schema"] == "loco.generated/1"
    assert found["path"] == "all.png"
    assert [one["seed"] for one in found["pictures"]] == [0, 1, 0, 1]
    assert (here / "all.png").read_bytes().startswith(b"\x89PNG")


def test_a_dry_run_prints_the_price(here):
    """
    `--dry-run` makes nothing.
    """
    result = generate("a cat", "--seeds", "3", "--steps", "5", "--dry-run")

    assert "make pictures: 3 pictures, 30 UNet evaluations" in result.stdout
    assert list(here.iterdir()) == []
