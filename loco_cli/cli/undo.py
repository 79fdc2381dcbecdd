"""`loco undo`: restore the base, byte for byte."""

from pathlib import Path
from typing import Annotated

import typer

from loco_cli.cli import options as o
from loco_cli.cli.console import Terminal, plain


def undo(
    ctx: typer.Context,
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="What `loco edit` wrote.", show_default=False)
    ],
    destination: o.Output = None,
    force: o.Force = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """
    Restore the base of an output, byte for byte, proven by its hashes.

    Example: loco undo edited --output base
    """
    from loco_cli.commands import undo as workflow

    terminal: Terminal = ctx.obj
    restored = workflow.run(output, destination, force=force)
    lines = [f"restored {restored.restored}: {len(restored.files)} files, every hash is the base's"]
    lines += [f"not restored, since the output never had it: {name}" for name in restored.left_out]
    terminal.show(restored.to_json(), *map(plain, lines))
