"""`loco cache`: finished runs of localizations, and how much room they take."""

import typer

from loco_cli.cli.console import Terminal, plain
from loco_cli.cli.options import Debug, Json, Quiet
from loco_cli.cli.usage import Command, CommandGroup

app = typer.Typer(cls=CommandGroup, help="Finished localization runs.", no_args_is_help=True)


@app.command("show", cls=Command)
def show_cache(
    ctx: typer.Context, as_json: Json = False, quiet: Quiet = False, debug: Debug = False
) -> None:
    """
    Say how many runs are kept, and where.

    Example: loco cache show
    """
    from loco_cli.localizing import cache as kept

    terminal: Terminal = ctx.obj
    size = kept.measure()
    terminal.show(size.to_json(), plain(size.summary()))


@app.command("clear", cls=Command)
def clear_cache(
    ctx: typer.Context, as_json: Json = False, quiet: Quiet = False, debug: Debug = False
) -> None:
    """
    Remove every run that is kept; localizations begin anew.

    Example: loco cache clear
    """
    from loco_cli.localizing import cache as kept

    terminal: Terminal = ctx.obj
    size = kept.clear()
    terminal.show(size.to_json(), plain(f"removed {size.summary()}"))
