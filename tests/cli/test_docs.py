"""`loco docs` through the door: the list of pages, a page as text and in a terminal."""

import json
import re

import pytest
from typer.testing import CliRunner

from loco_cli.cli.app import app
from tests.pages import MANUAL

ANSI = re.compile(r"\x1b\[[\d;]*m")
NAMES = [page.stem for page in MANUAL]


def loco(*arguments):
    """Run `loco docs` with these arguments."""
    return CliRunner().invoke(app, ["docs", *arguments])


def test_the_pages_are_listed_with_what_they_are_about():
    """
    Without a page every page is listed, the tutorial first.
    """
    shown, document = loco(), json.loads(loco("--json").stdout)

    lines = [line for line in shown.stdout.splitlines()[1:] if not line.startswith(" ")]
    listed = [line.split()[0] for line in lines]
    assert shown.exit_code == 0
    assert sorted(listed) == NAMES
    assert listed[0] == "tutorial"
    assert document["schema"] == "loco.pages/1"
    assert [page["name"] for page in document["pages"]] == listed


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_markdown_in_a_pipe(name):
    """
    What does not go to a terminal is the page as it is written, under its name or its file's.
    """
    written = next(page for page in MANUAL if page.stem == name).read_text("utf-8")

    assert loco(name).stdout == written
    assert loco(f"{name}.md").stdout == written


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_laid_out_in_a_terminal(name, monkeypatch):
    """
    In a terminal no mark of Markdown is left, no line is longer than 100 columns, links say where.
    """
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")

    shown = loco(name)

    assert shown.exit_code == 0
    assert "<!--" not in shown.stdout
    assert "|---" not in shown.stdout
    assert "](" not in shown.stdout
    assert max(len(line) for line in ANSI.sub("", shown.stdout).splitlines()) <= 100


def test_a_page_as_json_has_its_text():
    """
    The document of a page is its name, title, summary and text.
    """
    document = json.loads(loco("limits", "--json").stdout)

    assert document["schema"] == "loco.page/1"
    assert (document["name"], document["title"]) == ("limits", "Limits")
    assert document["text"].startswith(f"# Limits\n\n{document['summary']}\n")


def test_an_unknown_page_is_answered_with_those_there_are():
    """
    The exit code is 2, and the hint lists the pages.
    """
    shown = loco("licence")

    assert shown.exit_code == 2
    assert "there is no page `licence`" in shown.stderr
    assert all(name in shown.stderr for name in NAMES)


def test_a_shell_completes_pages():
    """
    The shell is offered the pages that begin with what was typed.
    """
    from loco_cli.cli.docs import page_names

    assert page_names("t") == ["tutorial", "troubleshooting"]
