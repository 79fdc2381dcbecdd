import io

import pytest
from rich.console import Console

from loco_cli.cli.console import Terminal, plain, safe
from loco_cli.cli.listener import Lines, reporting
from loco_cli.errors import RecipeError
from loco_cli.events import Progress
from loco_cli.sampling.processes import Team


@pytest.fixture
def terminal():
    """A terminal whose two streams are text."""
    made = Terminal(Team())
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
def test_plain_progress_says_what_time_is_left(seconds, expected):
    """
    A quick stage is two lines; a long one is told by tenths, some seconds apart, with an estimate.
    """
    said, times = [], iter(range(101))
    lines = Lines(said.append, clock=lambda: seconds * next(times))

    for done in range(101):
        lines(Progress("sampling", done, 100))

    assert said[: len(expected)] == expected
    assert said[-1] == "sampling 100/100"
    assert len(said) <= 11


def test_plain_progress_says_a_stage_again_that_begins_again():
    """
    Rounds of one stage are told apart from a few seconds on; quick ones are not told one by one.
    """
    said, now = [], [0.0]
    lines = Lines(said.append, clock=lambda: now[0])

    for start, total in ((0.0, 2), (1.0, 2), (9.0, 5)):
        now[0] = start
        for done in range(total + 1):
            lines(Progress("localizing", done, total))

    assert said == ["localizing 0/2", "localizing 2/2", "localizing 0/5", "localizing 5/5"]


def test_plain_progress_says_stages_one_after_the_other(terminal):
    """
    Without a terminal each stage says that it begins and that it has ended.
    """
    with reporting(terminal) as events:
        for stage, unit in (("loading", ""), ("generating", "steps")):
            for done in range(2):
                events.progress(stage, done, 1, unit)

    assert said(terminal).splitlines() == [
        *("loading 0/1", "loading 1/1"),
        *("generating 0/1 steps", "generating 1/1 steps"),
    ]


def test_quiet_leaves_only_errors(terminal):
    """
    With `--quiet` progress, words and warnings are silent; errors are not.
    """
    terminal.is_quiet = True

    terminal.say("loading")
    terminal.warn("slow")
    with reporting(terminal) as events:
        events.progress("sampling", 1, 2)
    terminal.fail(RecipeError("no such recipe"))

    assert said(terminal) == "error: no such recipe\n"


def test_a_terminal_gets_bars(terminal):
    """
    On a terminal a stage is drawn as a bar with its count.
    """
    terminal.err = Console(file=io.StringIO(), force_terminal=True, width=80)

    with reporting(terminal) as events:
        events.progress("sampling\x1b", 3, 48, "steps")

    assert "sampling\\x1b" in said(terminal)
    assert "3/48\x1b[0m steps" in said(terminal)


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
