"""Options in groups, on the command line and in a command."""

from typing import Annotated

import typer
from typer.testing import CliRunner

from loco_cli.cli import request as g
from loco_cli.cli.console import Terminal
from loco_cli.cli.evaluate import evaluate
from loco_cli.cli.generate import generate
from loco_cli.sampling.processes import Team


def run(command, *arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, arguments, obj=Terminal(Team()), catch_exceptions=False)


def test_a_command_is_given_its_groups():
    """
    The fields of a group are options of the command, which sees them as one record.
    """
    seen = []

    @g.spread
    def draw(
        ctx: typer.Context,
        prompt: Annotated[str, typer.Argument()],
        computing: g.Computing,
        result: g.Result,
        much: Annotated[int, typer.Option("--much")] = 3,
    ) -> None:
        """Draw."""
        seen.append((prompt, computing, result, much))

    done = run(draw, "a cat", "--device", "cpu", "--batch-size", "auto", "--force", "--much", "4")

    assert done.exit_code == 0, done.output
    ((prompt, computing, result, much),) = seen
    assert (prompt, much) == ("a cat", 4)
    assert computing == g.Computing(device="cpu")
    assert result == g.Result(force=True)


def test_layers_are_named_in_one_way():
    """
    A set of layers is read into numbers; both ways at once are refused.
    """
    assert g.Where(layers="1-3,10").overrides()["edit_layers"] == (1, 2, 3, 10)
    assert g.Where(layer_range=(8, 10)).overrides()["edit_layer_range"] == (8, 10)


def test_help_names_every_option_of_a_group():
    """
    Commands with a group have all of its options, each once.
    """
    for command, options in ((generate, ["--dtype"]), (evaluate, ["--layers", "--scorer"])):
        words = run(command, "--help").output.split()
        for option in (*options, "--device", "--batch-size", "--dry-run", "--json"):
            assert words.count(option) == 1, option
