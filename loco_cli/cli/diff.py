"""`loco diff`: what differs between two checkpoints."""

from typing import TYPE_CHECKING, Annotated

import typer

from loco_cli.cli import options as o
from loco_cli.cli.console import Terminal, plain, table

if TYPE_CHECKING:
    from rich.table import Table

    from loco_cli.diff import Diff, Verdict


def diff(
    ctx: typer.Context,
    a: Annotated[str, typer.Argument(metavar="A", help="A model, the base.", show_default=False)],
    b: Annotated[
        str, typer.Argument(metavar="B", help="A model, the edited one.", show_default=False)
    ],
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """
    Say what differs between two checkpoints, tensor by tensor. Exits with 1 if anything does.

    Example: loco diff tiny edited
    """
    from loco_cli.workflows import compare as workflow
    from loco_cli.workflows.locate import find

    terminal: Terminal = ctx.obj
    found = workflow.run(find(a).path, find(b).path)
    terminal.show(found.to_json(), _tensors_table(found), *map(plain, _in_words(found)))
    raise typer.Exit(0 if found.is_same else 1)


def _tensors_table(found: "Diff") -> "Table":
    shown = table("status", "change", "max", "rank", "block", "tensor")
    shown.columns[-1].overflow = "fold"  # a name that is cut cannot be copied
    for tensor in found.tensors:
        shown.add_row(
            tensor.status.replace("_", " "),
            _number(tensor.relative_change, ".4f"),
            _number(tensor.max_abs, ".3g"),
            _number(tensor.rank, "d"),
            plain(tensor.label or tensor.block),
            plain(tensor.name),
        )
    return shown


def _number(value: float | int | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _in_words(found: "Diff") -> list[str]:
    counts = found.counts.model_dump()
    lines = [", ".join(f"{n} {status.replace('_', ' ')}" for status, n in counts.items() if n)]
    lines += [f"metadata `{key}` differs" for key in found.metadata]
    return [*lines, *_verdict(found.manifest)]


def _verdict(verdict: "Verdict") -> list[str]:
    if not verdict.found:
        return []
    if verdict.matches:
        return ["the changed tensors are exactly those of the manifest"]
    lines = ["the changed tensors are not those of the manifest"]
    lines += [f"unexpected: {name}" for name in verdict.unexpected]
    return lines + [f"listed, but unchanged: {name}" for name in verdict.missing]
