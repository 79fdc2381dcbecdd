"""`loco cache`: the cached localization runs."""

import typer

from loco_cli.cli.console import Terminal, plain
from loco_cli.cli.options import Debug, Json, Quiet
from loco_cli.cli.usage import Command, CommandGroup

app = typer.Typer(
    cls=CommandGroup, help="Show or clear cached localization runs.", no_args_is_help=True
)


@app.command("show", cls=Command)
def show_cache(
    ctx: typer.Context, as_json: Json = False, quiet: Quiet = False, debug: Debug = False
) -> None:
    """
    Show how many localization runs are cached, and where.

    Example: loco cache show
    """
    from loco_cli.localizing import cache

    terminal: Terminal = ctx.obj
    size = cache.measure()
    terminal.show(size.to_json(), plain(size.summary()))


@app.command("clear", cls=Command)
def clear_cache(
    ctx: typer.Context, as_json: Json = False, quiet: Quiet = False, debug: Debug = False
) -> None:
    """
    Delete all cached localization runs.

    The next localization starts from scratch.

    Example: loco cache clear
    """
    from loco_cli.localizing import cache

    terminal: Terminal = ctx.obj
    size = cache.clear()
    terminal.show(size.to_json(), plain(f"removed {size.summary()}"))
