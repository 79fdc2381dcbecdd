"""The Typer app: its commands, and the only error handler."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loco_cli import __version__
from loco_cli.cli import cache, models, recipes
from loco_cli.cli.console import Terminal
from loco_cli.cli.diff import diff
from loco_cli.cli.docs import docs
from loco_cli.cli.edit import edit
from loco_cli.cli.evaluate import evaluate
from loco_cli.cli.generate import generate
from loco_cli.cli.localize import localize
from loco_cli.cli.undo import undo
from loco_cli.cli.usage import Command, CommandGroup, is_help, usage_error
from loco_cli.cli.verify import verify
from loco_cli.commands.processes import launched_team
from loco_cli.errors import LocoError, MachineError, RequestError

if TYPE_CHECKING:
    from loco_cli.sampling.processes import Team


class LocoGroup(CommandGroup):
    """The command line, which gives each command a `Terminal` and prints errors as sentences."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command line, then exit with its exit code."""
        terminal = Terminal(launched_team(os.environ))
        with _only_first_process_prints(terminal.team):
            try:
                # in standalone mode Typer would print errors itself
                kwargs |= {"obj": terminal, "standalone_mode": False}
                sys.exit(super().main(*args, **kwargs))
            except LocoError as error:
                failure = error
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                failure = MachineError(
                    f"`{error.filename}`: {reason}" if error.filename else reason
                )
            except Exception as error:  # any other exception is a bug or a usage error of Typer
                if is_help(error):
                    sys.exit(RequestError.exit_code)
                refused = usage_error(error)
                if refused is None:
                    terminal.fail_as_bug(error)
                    sys.exit(1)
                failure = refused
            terminal.fail(failure)
            sys.exit(failure.exit_code)


app = typer.Typer(
    name="loco",
    cls=LocoGroup,
    help="Find where a text-to-image model stores a concept, and edit it in closed form.",
    epilog="Example: loco recipes list",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(ctx: typer.Context, wanted: bool) -> None:
    if wanted:
        ctx.obj.out.print(f"loco {__version__}")
        raise typer.Exit


@app.callback()
def loco(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Find where a text-to-image model stores a concept, and edit it in closed form."""
    if ctx.invoked_subcommand != "localize":
        ctx.obj.team.require_single_process(f"`loco {ctx.invoked_subcommand}`")


# `loco --help` lists the commands in this order
app.command(cls=Command)(localize)
app.command(cls=Command)(edit)
app.command(cls=Command)(diff)
app.command(cls=Command)(verify)
app.command(cls=Command)(undo)
app.command(cls=Command)(evaluate)
app.command(cls=Command)(generate)
app.command(cls=Command)(docs)
app.add_typer(recipes.app, name="recipes")
app.add_typer(models.app, name="models")
app.add_typer(cache.app, name="cache")


@contextmanager
def _only_first_process_prints(team: "Team") -> Iterator[None]:
    """Discard the output of every process except the first while the context is open."""
    if team.is_first:
        yield
        return
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def main() -> None:
    """Run `loco` with the command line of this process."""
    # idle torch threads would otherwise spin and slow down the threads that copy and hash
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()
