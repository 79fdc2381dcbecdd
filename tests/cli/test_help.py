"""The help of every command at 80 columns, and what a shell completes."""

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
    """Return what a shell is offered for the last word typed."""
    monkeypatch.setenv("_LOCO_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split(" ")) - 1))
    result = CliRunner().invoke(app, [], prog_name="loco")
    assert result.exit_code == 0
    return result.stdout.split()


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_fits_a_terminal(words, monkeypatch):
    """
    Nothing is wider than 80 columns or cut, arguments stand bare, and flags take nothing.
    """
    monkeypatch.setenv("COLUMNS", "80")

    shown = CliRunner().invoke(app, [*words, "--help"], prog_name="loco").stdout

    lines = shown.splitlines()
    usage = next(line for line in lines if "Usage:" in line)
    assert max(map(len, lines)) <= 80
    assert "<bool>" not in shown
    assert "…" not in shown
    assert "{" not in usage


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_prose_flows_at_80_columns(words):
    """
    What stands below the first paragraph keeps its line ends, so that no line may be too long.
    """
    _, *more = inspect.cleandoc(commands()[words].help).split("\n\n")

    assert all(len(line) <= 78 for text in more for line in text.splitlines())


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
def test_a_shell_completes(typed, offered, monkeypatch):
    """
    Commands, options, choices, names of the catalog and aliases of models are completed.
    """
    assert completed(typed, monkeypatch) == offered


def test_names_of_recipes_can_be_copied(monkeypatch):
    """
    The list of recipes cuts no name, however narrow the terminal.
    """
    monkeypatch.setenv("COLUMNS", "80")

    shown = CliRunner().invoke(app, ["recipes", "list"]).stdout

    assert {entry.name for entry in entries()} <= set(shown.split())
