"""The Typer app, its commands, and the one error handler."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from loco_cli import __version__
from loco_cli.cli import cache, models, recipes
from loco_cli.cli.console import Terminal
from loco_cli.cli.diff import diff
from loco_cli.cli.edit import edit
from loco_cli.cli.evaluate import evaluate
from loco_cli.cli.generate import generate
from loco_cli.cli.localize import localize
from loco_cli.cli.undo import undo
from loco_cli.cli.usage import Command, CommandGroup, translate_usage_errors
from loco_cli.cli.verify import verify
from loco_cli.errors import LocoError, MachineError
from loco_cli.sampling.processes import Team


class LocoGroup(CommandGroup):
    """The command line: gives every command a Terminal, and turns errors into sentences."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command line and exit with its code."""
        terminal = Terminal(_team())
        with only_first_process_prints(terminal.team):
            try:
                return super().main(*args, obj=terminal, **kwargs)
            except LocoError as error:
                terminal.fail(error)
                sys.exit(error.exit_code)
            except OSError as error:
                terminal.fail(_as_sentence(error))
            except Exception as error:  # the door: whatever gets here is a bug
                terminal.fail_as_bug(error)
            sys.exit(1)

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read what stands before the command; raises RequestError."""
        with translate_usage_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Read the rest and run the command; raises RequestError."""
        with translate_usage_errors():
            return super().invoke(ctx)


app = typer.Typer(
    name="loco",
    cls=LocoGroup,
    help="Find where a text-to-image model keeps a concept, and edit it in closed form.",
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
    """Find where a text-to-image model keeps a concept, and edit it in closed form."""
    if ctx.invoked_subcommand != "localize":
        ctx.obj.team.check_alone(f"`loco {ctx.invoked_subcommand}`")


# one line per command, in the order of --help
app.command(cls=Command)(localize)
app.command(cls=Command)(edit)
app.command(cls=Command)(diff)
app.command(cls=Command)(verify)
app.command(cls=Command)(undo)
app.command(cls=Command)(evaluate)
app.command(cls=Command)(generate)
app.add_typer(recipes.app, name="recipes")
app.add_typer(models.app, name="models")
app.add_typer(cache.app, name="cache")


def _team() -> Team:
    """Return the processes that `accelerate launch` or `torchrun` started, as these tell it."""
    rank, size = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE"))
    is_told = rank.isdecimal() and size.isdecimal() and "MASTER_ADDR" in os.environ
    return Team(int(rank), int(size)) if is_told else Team()


@contextmanager
def only_first_process_prints(team: Team) -> Iterator[None]:
    """While open, of several processes one is heard."""
    if team.is_first:
        yield
        return
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def _as_sentence(error: OSError) -> MachineError:
    reason = (error.strerror or str(error)).lower()
    return MachineError(f"`{error.filename}`: {reason}" if error.filename else reason)


def main() -> None:
    """Run `loco` with the arguments of this process."""
    # threads of torch that wait for one another would keep the cores from those that copy and hash
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()
