"""`loco verify`: check an output of `loco edit` against its manifest."""

from pathlib import Path
from typing import Annotated

import typer

from loco_cli.cli import options as o
from loco_cli.cli.console import Terminal, plain


def verify(
    ctx: typer.Context,
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="An output of `loco edit`.", show_default=False)
    ],
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """
    Check an output against its manifest: that all hashes match and that undo restores the base.

    Exits with 1 if a check fails.

    Example: loco verify edited
    """
    from loco_cli.commands import verify as command

    terminal: Terminal = ctx.obj
    found = command.run(output)
    sentences = found.failures or (f"`{output}` is intact: all hashes match the manifest",)
    terminal.show(found.to_json(), *map(plain, sentences))
    raise typer.Exit(0 if found.ok else 1)
