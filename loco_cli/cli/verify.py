"""`loco verify`: hold an output against its manifest."""

from pathlib import Path
from typing import Annotated

import typer

from loco_cli.cli import options as o
from loco_cli.cli.console import Terminal, plain


def verify(
    ctx: typer.Context,
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="What `loco edit` wrote.", show_default=False)
    ],
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """
    Hold an output against its manifest: its hashes, and that what undoes it gives the base.

    Example: loco verify edited
    """
    from loco_cli.commands import verify as workflow

    terminal: Terminal = ctx.obj
    found = workflow.run(output)
    sentences = found.failures or (f"`{output}` holds: its hashes are those of the manifest",)
    terminal.show(found.to_json(), *map(plain, sentences))
    raise typer.Exit(0 if found.ok else 1)
