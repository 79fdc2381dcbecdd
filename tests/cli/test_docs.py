"""`loco docs`: the list of pages, and a page in a pipe and in a terminal."""

import json
import re

from tests.pages import MANUAL

ANSI = re.compile(r"\x1b\[[\d;]*m")
NAMES = [page.stem for page in MANUAL]


def test_list_of_pages(loco):
    """
    Without a page, all pages are listed, the tutorial first.
    """
    shown, document = loco("docs"), json.loads(loco("docs", "--json").stdout)

    lines = [line for line in shown.stdout.splitlines()[1:] if not line.startswith(" ")]
    listed = [line.split()[0] for line in lines]
    assert shown.exit_code == 0
    assert sorted(listed) == NAMES
    assert listed[0] == "tutorial"
    assert document["schema"] == "loco.pages/1"
    assert [page["name"] for page in document["pages"]] == listed


def test_page_in_a_pipe(loco):
    """
    A page in a pipe is its Markdown file, with or without the suffix in its name.
    """
    for page in MANUAL:
        assert loco("docs", page.stem).stdout == page.read_text("utf-8")
        assert loco("docs", page.name).stdout == page.read_text("utf-8")


def test_page_in_a_terminal(loco, monkeypatch):
    """
    A page in a terminal has no Markdown marks, and no line of more than 100 columns.
    """
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")

    for name in NAMES:
        shown = loco("docs", name)
        assert shown.exit_code == 0, name
        assert [mark for mark in ("<!--", "|---", "](") if mark in shown.stdout] == [], name
        assert max(len(line) for line in ANSI.sub("", shown.stdout).splitlines()) <= 100, name


def test_page_as_json(loco):
    """
    The document of a page has its name, title, summary and text.
    """
    document = json.loads(loco("docs", "limits", "--json").stdout)

    assert document["schema"] == "loco.page/1"
    assert (document["name"], document["title"]) == ("limits", "Limits")
    assert document["text"].startswith(f"# Limits\n\n{document['summary']}\n")


def test_unknown_page(loco):
    """
    An unknown page exits with 2, and the hint lists all pages.
    """
    shown = loco("docs", "licence")

    assert shown.exit_code == 2
    assert "unknown page `licence`" in shown.stderr
    assert all(name in shown.stderr for name in NAMES)


def test_page_completion():
    """
    The shell completes the names of pages.
    """
    from loco_cli.cli.docs import page_names

    assert page_names("t") == ["tutorial", "troubleshooting"]
