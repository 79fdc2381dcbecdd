import io

import pytest
from rich.console import Console

from loco_cli.cli.console import Terminal, plain, safe
from loco_cli.errors import RecipeError
from loco_cli.workflows.progress import Progress


@pytest.fixture
def terminal():
    """A terminal whose two streams are text."""
    made = Terminal()
    made.out.file, made.err.file = io.StringIO(), io.StringIO()
    return made


def said(terminal):
    return terminal.err.file.getvalue()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("monet", "monet"),
        ("λ — 猫", "λ — 猫"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202eevil", "\\u202eevil"),
        ("\udc80", "\\udc80"),
        ("[red]x[/red]", "[red]x[/red]"),
    ],
)
def test_escapes_what_a_terminal_might_obey(text, expected):
    """
    Control, direction and surrogate characters become escapes; letters and markup stay.
    """
    assert safe(text) == expected
    assert plain(text).plain == expected


def test_an_error_is_one_line_and_a_hint(terminal):
    """
    An error is its sentence, a blank line and the way out, on stderr and unwrapped.
    """
    terminal.fail(RecipeError("recipe `\x1b[2J`: " + "unknown key " * 12, "did you mean `x`?"))

    error, blank, hint = said(terminal).splitlines()
    assert error.startswith("error: recipe `\\x1b[2J`: unknown key")
    assert blank == ""
    assert hint == "hint: did you mean `x`?"
    assert terminal.out.file.getvalue() == ""


def test_plain_progress_says_a_stage_and_every_tenth(terminal):
    """
    Without a terminal a long stage is some ten lines, and a short one a line per step.
    """
    with terminal.progress() as notify:
        for done in range(101):
            notify(Progress("sampling", done, 100))
        for done in range(3):
            notify(Progress("solving", done, 2))

    lines = said(terminal).splitlines()
    assert lines[:3] == ["sampling 0/100", "sampling 10/100", "sampling 20/100"]
    assert lines[10:] == ["sampling 100/100", "solving 0/2", "solving 1/2", "solving 2/2"]


def test_quiet_leaves_only_errors(terminal):
    """
    With `--quiet` progress, words and warnings are silent; errors are not.
    """
    terminal.is_quiet = True

    terminal.say("loading")
    terminal.warn("slow")
    with terminal.progress() as notify:
        notify(Progress("sampling", 1, 2))
    terminal.fail(RecipeError("no such recipe"))

    assert said(terminal) == "error: no such recipe\n"


def test_a_terminal_gets_bars(terminal):
    """
    On a terminal a stage is drawn as a bar with its count.
    """
    terminal.err = Console(file=io.StringIO(), force_terminal=True, width=80)

    with terminal.progress() as notify:
        notify(Progress("sampling\x1b", 3, 48))

    assert "sampling\\x1b" in said(terminal)
    assert "3/48" in said(terminal)


def test_json_is_one_document_and_holds_no_nan(terminal):
    """
    With `--json` the result is the document alone; NaN is never written.
    """
    terminal.as_json = True

    terminal.show({"schema": "x", "subject": "\x1b[2J λ"}, "a table")

    assert (
        terminal.out.file.getvalue()
        == '{\n  "schema": "x",\n  "subject": "\\u001b[2J \\u03bb"\n}\n'
    )
    with pytest.raises(ValueError, match="Out of range"):
        terminal.show({"score": float("nan")})
