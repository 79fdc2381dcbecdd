"""`loco diff`: the differences between two checkpoints."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from loco_cli.cli import options as o
from loco_cli.cli.console import Terminal, plain, table
from loco_cli.errors import format_size

if TYPE_CHECKING:
    from rich.table import Table

    from loco_cli.diff import Diff, Side, TensorDelta


def diff(
    ctx: typer.Context,
    a: Annotated[
        str,
        typer.Argument(
            metavar="A",
            autocompletion=o.model_names,
            help="The base model.",
            show_default=False,
        ),
    ],
    b: Annotated[
        str,
        typer.Argument(
            metavar="B",
            autocompletion=o.model_names,
            help="The edited model.",
            show_default=False,
        ),
    ],
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """
    Compare two checkpoints tensor by tensor. Exits with 1 if any tensor differs.

    The rank counts only changes larger than the rounding error of the file's
    dtype. `loco edit` reports the rank before rounding.

    Example: loco diff tiny edited
    """
    from loco_cli.cli.listener import reporting
    from loco_cli.commands import diff as command
    from loco_cli.models.locate import find_model_path

    # each of our own threads measures a tensor, and threads of OpenBLAS would compete with them
    os.putenv("OPENBLAS_NUM_THREADS", "1")
    terminal: Terminal = ctx.obj
    paths = find_model_path(a).path, find_model_path(b).path
    with reporting(terminal) as events:
        found = command.run(*paths, events)
    tables = () if found.is_same else (_tensors_table(found),)
    terminal.show(found.to_json(), *tables, *map(plain, _in_words(found)))
    raise typer.Exit(0 if found.is_same else 1)


def _tensors_table(found: "Diff") -> "Table":
    shown = table("status", "|Δ|/|W|", "max |Δ|", "rank", "share", "tensor")
    shown.columns[-1].overflow = "fold"  # wraps long names, so that they can be copied
    for tensors in found.by_block():
        shown.add_row(*("",) * 5, plain(_block(tensors[0])))
        for tensor in tensors:
            shown.add_row(
                tensor.status.replace("_", " "),
                _number(tensor.relative_change, ".4f"),
                _number(tensor.max_abs, ".2g"),
                _number(tensor.rank, "d"),
                _share(tensor.share_changed),
                plain(f"  {tensor.name_in_block}"),
            )
    return shown


def _block(tensor: "TensorDelta") -> str:
    label = f" ({tensor.label})" if tensor.label else ""
    return f"{tensor.component} {tensor.block}{label}".strip()


def _share(value: float | None) -> str:
    # a small share would otherwise be printed as 0%
    return "<1%" if value and value < 0.01 else _number(value, ".0%")


def _number(value: float | int | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _in_words(found: "Diff") -> list[str]:
    counts = found.counts.model_dump()
    lines = [f"{_side(found.a)} → {_side(found.b)}"]
    lines += [", ".join(f"{n} {status.replace('_', ' ')}" for status, n in counts.items() if n)]
    lines += [
        f"metadata `{key}`: {_value(change['a'])} → {_value(change['b'])}"
        for key, change in found.metadata.items()
    ]
    return [*lines, *_verdict(found)]


def _side(side: "Side") -> str:
    return f"{side.name} ({side.family} {side.layout}, {format_size(side.bytes)})"


def _value(text: str | None, width: int = 60) -> str:
    if text is None:
        return "–"
    return text if len(text) <= width else f"{text[:width]}…"


def _verdict(found: "Diff") -> list[str]:
    verdict = found.manifest
    if not verdict.found:
        return []
    if verdict.matches:
        return ["the changed tensors are exactly those in the manifest"]
    if verdict.is_base is False:
        edit, other = (found.b, found.a) if verdict.side == "b" else (found.a, found.b)
        return [
            f"`{other.name}` is not the base of `{edit.name}`, so the manifest does not list "
            "the tensors that should differ between the two"
        ]
    lines = ["the changed tensors are not those in the manifest"]
    lines += [f"changed but not listed: {name}" for name in verdict.unexpected]
    return lines + [f"listed but unchanged: {name}" for name in verdict.missing]
