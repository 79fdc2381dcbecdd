"""Groups of options, on the command line and in a command."""

from typing import Annotated

import typer
from typer.testing import CliRunner

from loco_cli.cli.console import Terminal
from loco_cli.cli.evaluate import evaluate
from loco_cli.cli.generate import generate
from loco_cli.cli.request import LayerOptions, MachineOptions, OutputOptions, spread
from loco_cli.sampling.processes import Team


def run(command, *arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, arguments, obj=Terminal(Team()), catch_exceptions=False)


def test_groups_of_options():
    """
    The fields of a group are options on the command line, and one record in the command.
    """
    seen = []

    @spread
    def draw(
        ctx: typer.Context,
        prompt: Annotated[str, typer.Argument()],
        computing: MachineOptions,
        result: OutputOptions,
        much: Annotated[int, typer.Option("--much")] = 3,
    ) -> None:
        """Draw."""
        seen.append((prompt, computing, result, much))

    done = run(draw, "a cat", "--device", "cpu", "--batch-size", "auto", "--force", "--much", "4")

    assert done.exit_code == 0, done.output
    ((prompt, computing, result, much),) = seen
    assert (prompt, much) == ("a cat", 4)
    assert computing == MachineOptions(device="cpu")
    assert result == OutputOptions(force=True)


def test_named_layers():
    """
    Layers are parsed from a list or a range.
    """
    assert LayerOptions(layers="1-3,10").overrides()["edit_layers"] == (1, 2, 3, 10)
    assert LayerOptions(layer_range=(8, 10)).overrides()["edit_layer_range"] == (8, 10)


def test_help_of_groups():
    """
    The help of a command has each option of its groups once.
    """
    for command, options in ((generate, ["--dtype"]), (evaluate, ["--layers", "--scorer"])):
        words = run(command, "--help").output.split()
        for option in (*options, "--device", "--batch-size", "--dry-run", "--json"):
            assert words.count(option) == 1, option
