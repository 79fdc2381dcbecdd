"""The help of every command at 80 columns, and shell completion."""

import inspect

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from loco_cli.cli.app import app
from loco_cli.families import registry
from loco_cli.recipe.catalog import entries


def commands():
    """Return the words of every command, `()` for `loco` itself."""
    found = {(): get_command(app)}
    for name, command in found[()].commands.items():
        found[(name,)] = command
        for inner, one in getattr(command, "commands", {}).items():
            found[name, inner] = one
    return found


def completed(typed, monkeypatch):
    """Return the completions of the last word of a command line."""
    monkeypatch.setenv("_LOCO_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split(" ")) - 1))
    result = CliRunner().invoke(app, [], prog_name="loco")
    assert result.exit_code == 0
    return result.stdout.split()


def test_help_fits_80_columns(loco, monkeypatch):
    """
    No help is wider than 80 columns or truncated, or has braces or the type of a flag.
    """
    monkeypatch.setenv("COLUMNS", "80")

    for words in commands():
        shown = loco(*words, "--help").stdout
        usage = next(line for line in shown.splitlines() if "Usage:" in line)
        assert max(map(len, shown.splitlines())) <= 80, words
        assert "<bool>" not in shown, words
        assert "…" not in shown, words
        assert "{" not in usage, words


def test_paragraphs_of_help_fit_80_columns():
    """
    Typer keeps the line breaks of all paragraphs but the first, so these lines must be short.
    """
    for words, command in commands().items():
        _, *more = inspect.cleandoc(command.help).split("\n\n")
        lines = [line for text in more for line in text.splitlines()]
        assert [line for line in lines if len(line) > 78] == [], words


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("loco ed", ["edit"]),
        ("loco edit --save-r", ["--save-recipe"]),
        ("loco edit replace_", [e.name for e in entries() if e.name.startswith("replace_")]),
        ("loco localize many", ["many_edits"]),
        ("loco edit x --model sd", [name for name in registry.names() if name.startswith("sd")]),
        ("loco edit x --kind ", ["style", "object", "fact"]),
        ("loco recipes sch", ["schema"]),
        ("loco recipes show many", ["many_edits"]),
        ("loco models show tiny-", ["tiny-plain"]),
        ("loco diff tiny-", ["tiny-plain"]),
        ("loco diff tiny tiny-", ["tiny-plain"]),
        ("loco evaluate x --base tiny-", ["tiny-plain"]),
    ],
)
def test_shell_completion(typed, offered, monkeypatch):
    """
    The shell completes commands, options, choices, recipe names and model aliases.
    """
    assert completed(typed, monkeypatch) == offered


def test_recipe_names_are_not_truncated(loco, monkeypatch):
    """
    The list of recipes shows every name in full on a terminal of 80 columns.
    """
    monkeypatch.setenv("COLUMNS", "80")

    shown = loco("recipes", "list").stdout

    assert {entry.name for entry in entries()} <= set(shown.split())
