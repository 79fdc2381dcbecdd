"""The terminal: escapes, errors, progress and JSON."""

import io

import pytest
from rich.console import Console

from loco_cli.cli.console import Terminal, plain, safe
from loco_cli.cli.listener import ProgressLines, reporting
from loco_cli.errors import RecipeError
from loco_cli.events import Progress
from loco_cli.sampling.processes import Team


@pytest.fixture
def terminal():
    """A terminal that writes to two strings."""
    made = Terminal(Team())
    made.out.file, made.err.file = io.StringIO(), io.StringIO()
    return made


def stderr_of(terminal):
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
def test_escapes(text, expected):
    """
    Control, direction and surrogate characters are escaped; letters and markup are not.
    """
    assert safe(text) == expected
    assert plain(text).plain == expected


def test_error(terminal):
    """
    An error is one unwrapped line on stderr, a blank line, and a hint.
    """
    terminal.fail(RecipeError("recipe `\x1b[2J`: " + "unknown key " * 12, "did you mean `x`?"))

    error, blank, hint = stderr_of(terminal).splitlines()
    assert error.startswith("error: recipe `\\x1b[2J`: unknown key")
    assert blank == ""
    assert hint == "hint: did you mean `x`?"
    assert terminal.out.file.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.001, ["sampling 0/100", "sampling 100/100"]),
        (
            0.2,
            [
                "sampling 0/100",
                "sampling 15/100, about 17 s left",
                "sampling 30/100, about 14 s left",
            ],
        ),
        (6, ["sampling 0/100", "sampling 10/100, about 9 min left"]),
        (120, ["sampling 0/100", "sampling 10/100, about 3 h 0 min left"]),
    ],
)
def test_progress_lines(seconds, expected):
    """
    A quick stage has two lines; a slow one has a line per tenth with the remaining time.
    """
    written, times = [], iter(range(101))
    lines = ProgressLines(written.append, clock=lambda: seconds * next(times))

    for done in range(101):
        lines(Progress("sampling", done, 100))

    assert written[: len(expected)] == expected
    assert written[-1] == "sampling 100/100"
    assert len(written) <= 11


def test_restarted_stage():
    """
    A stage that restarts has a new first line, unless it restarts at once.
    """
    written, now = [], [0.0]
    lines = ProgressLines(written.append, clock=lambda: now[0])

    for start, total in ((0.0, 2), (1.0, 2), (9.0, 5)):
        now[0] = start
        for done in range(total + 1):
            lines(Progress("localizing", done, total))

    assert written == ["localizing 0/2", "localizing 2/2", "localizing 0/5", "localizing 5/5"]


def test_several_stages(terminal):
    """
    Without a terminal, each stage has a first and a last line.
    """
    with reporting(terminal) as events:
        for stage, unit in (("loading", ""), ("generating", "steps")):
            for done in range(2):
                events.progress(stage, done, 1, unit)

    assert stderr_of(terminal).splitlines() == [
        *("loading 0/1", "loading 1/1"),
        *("generating 0/1 steps", "generating 1/1 steps"),
    ]


def test_quiet(terminal):
    """
    With `--quiet`, only errors are printed.
    """
    terminal.is_quiet = True

    terminal.note("loading")
    terminal.warn("slow")
    with reporting(terminal) as events:
        events.progress("sampling", 1, 2)
    terminal.fail(RecipeError("no such recipe"))

    assert stderr_of(terminal) == "error: no such recipe\n"


def test_bars(terminal):
    """
    On a terminal, a stage is a bar with its count.
    """
    terminal.err = Console(file=io.StringIO(), force_terminal=True, width=80)

    with reporting(terminal) as events:
        events.progress("sampling\x1b", 3, 48, "steps")

    assert "sampling\\x1b" in stderr_of(terminal)
    assert "3/48\x1b[0m steps" in stderr_of(terminal)


def test_json(terminal):
    """
    With `--json`, stdout has only the document, which cannot contain NaN.
    """
    terminal.as_json = True

    terminal.show({"schema": "x", "subject": "\x1b[2J λ"}, "a table")

    assert (
        terminal.out.file.getvalue()
        == '{\n  "schema": "x",\n  "subject": "\\u001b[2J \\u03bb"\n}\n'
    )
    with pytest.raises(ValueError, match="Out of range"):
        terminal.show({"score": float("nan")})
