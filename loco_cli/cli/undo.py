"""`loco undo`: restore the base of an edited checkpoint, byte for byte."""

from pathlib import Path
from typing import Annotated

import typer

from loco_cli.cli import options as o
from loco_cli.cli.console import Terminal, plain


def undo(
    ctx: typer.Context,
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="An output of `loco edit`.", show_default=False)
    ],
    destination: o.Output = None,
    force: o.Force = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """
    Restore the base of an edited checkpoint, byte for byte, and check its hashes.

    Example: loco undo edited --output base
    """
    from loco_cli.commands import undo as command

    terminal: Terminal = ctx.obj
    restored = command.run(output, destination, force=force)
    lines = [f"restored {restored.restored}: {len(restored.files)} files, all hashes match"]
    lines += [f"not restored, because the edit left it out: {name}" for name in restored.left_out]
    terminal.show(restored.to_json(), *map(plain, lines))
