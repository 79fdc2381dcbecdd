"""`loco evaluate`: before and after, counted."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from loco_cli.cli import options as o
from loco_cli.cli.console import Terminal, plain, table
from loco_cli.cli.request import command_line, layer_list, recipe_of

if TYPE_CHECKING:
    from rich.table import Table

    from loco_cli.evaluation import Evaluation, ForgetRow, KeepRow


def evaluate(
    ctx: typer.Context,
    recipe: o.RecipeArgument,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="MODEL",
            help="The model before the edit.",
            show_default="the recipe's",
        ),
    ] = None,
    edited: Annotated[
        str | None,
        typer.Option(
            "--edited",
            metavar="PATH",
            help="The edited checkpoint; left out, the edit is made in memory.",
        ),
    ] = None,
    model: o.Model = None,
    fail_under: Annotated[
        str | None,
        typer.Option(
            "--fail-under",
            metavar="LIMITS",
            help="Exit with 1 under these, as in forgotten=0.9,became=0.9,kept=0.95.",
        ),
    ] = None,
    layer_range: o.LayerRange = None,
    layers: o.Layers = None,
    seeds: o.Seeds = None,
    steps: o.Steps = None,
    guidance: o.Guidance = None,
    scorer: o.Scorer = None,
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    batch_size: o.BatchSize = None,
    settings: o.Set = None,
    no_cache: o.NoCache = False,
    output: o.Output = None,
    force: o.Force = False,
    dry_run: o.DryRun = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """
    Generate before and after an edit, and count what was forgotten, what it became, what was kept.

    Prompts and seeds are none that chose the layers or the edit.

    Example: loco evaluate remove_style --edited edited --fail-under forgotten=0.9,kept=0.9
    """
    asked = recipe_of(
        recipe,
        model=base or model,
        settings=settings,
        edit_layer_range=layer_range,
        edit_layers=layer_list(layers, layer_range),
        evaluate_seeds=seeds,
        evaluate_steps=steps,
        evaluate_guidance=guidance,
    )
    terminal: Terminal = ctx.obj
    from loco_cli.evaluation import parse_limits
    from loco_cli.workflows import planning

    limits = {} if fail_under is None else parse_limits(fail_under)
    plan = planning.evaluate(asked, edited, output, force=force)
    if dry_run:
        terminal.show(plan.to_json(), *map(plain, planning.in_words(plan)))
        return
    from loco_cli.workflows import evaluate as workflow
    from loco_cli.workflows.machine import Machine

    with terminal.progress() as notify:
        evaluated = workflow.run(
            asked,
            Machine(device, dtype, batch_size or "auto", scorer),
            edited,
            output,
            limits=limits,
            force=force,
            command=command_line(),
            notify=notify,
        )
    document = evaluated.evaluation
    terminal.show(
        document.to_json(), _rows_table(document), plain(workflow.figures_in_words(document))
    )
    if evaluated.files:
        terminal.say(f"wrote {', '.join(map(str, evaluated.files))}")
    evaluated.raise_failures()


def _rows_table(evaluation: "Evaluation") -> "Table":
    shown = table("", "prompt", "score", "recognised", "became")
    for forgotten in evaluation.forget:
        shown.add_row("forget", *_cells(forgotten), _share(forgotten.became))
    for kept in evaluation.keep:
        shown.add_row("keep", *_cells(kept), "")
    return shown


def _cells(row: "ForgetRow | KeepRow") -> tuple[RenderableType, ...]:
    return (
        plain(row.prompt),
        f"{row.before:.2f} → {row.after:.2f}",
        f"{_share(row.recognised_before)} → {_share(row.recognised_after)}",
    )


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
