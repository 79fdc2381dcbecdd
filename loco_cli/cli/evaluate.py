"""`loco evaluate`: measure an edit on images from before and after it."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from loco_cli.cli import options as o
from loco_cli.cli.console import Terminal, plain, table
from loco_cli.cli.request import (
    LayerOptions,
    MachineOptions,
    OutputOptions,
    SamplingOptions,
    command_line,
    recipe_of,
    spread,
)
from loco_cli.errors import RequestError

if TYPE_CHECKING:
    from rich.table import Table

    from loco_cli.evaluation import Evaluation, ForgetRow, KeepRow


@spread
def evaluate(
    ctx: typer.Context,
    recipe: o.RecipeArgument,
    layers: LayerOptions,
    sampling: SamplingOptions,
    machine: MachineOptions,
    result: OutputOptions,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="MODEL",
            autocompletion=o.model_names,
            help="The model before the edit.",
            show_default="the recipe's",
        ),
    ] = None,
    edited: Annotated[
        str | None,
        typer.Option(
            "--edited",
            metavar="PATH",
            help="The edited checkpoint or LoRA. Without it, the edit is made in memory.",
        ),
    ] = None,
    model: o.Model = None,
    fail_under: Annotated[
        str | None,
        typer.Option(
            "--fail-under",
            metavar="LIMITS",
            help="Exit with 1 if a metric is below its limit, "
            "e.g. forgotten=0.9,became=0.9,kept=0.95.",
        ),
    ] = None,
) -> None:
    """
    Generate images before and after an edit, and measure its effect.

    It reports how often the concept was forgotten, how often it became the
    target, and how often other concepts were kept. No prompt or seed of the
    evaluation was used to choose the layers or the strength.

    Example: loco evaluate remove_style --edited edited --fail-under kept=0.9
    """
    if base and model and base != model:
        raise RequestError(
            f"`--base {base}` and `--model {model}` name two different base models",
            "pass only one of them",
        )
    requested = recipe_of(
        recipe,
        model=base or model,
        settings=sampling.settings,
        **layers.overrides(),
        **sampling.overrides("evaluate"),
    )
    terminal: Terminal = ctx.obj
    from loco_cli.cli.listener import reporting, show_plan
    from loco_cli.commands import evaluate as command
    from loco_cli.evaluation import parse_limits
    from loco_cli.report.sentences import figures_sentence, strength_words

    limits = {} if fail_under is None else parse_limits(fail_under)
    options = command.EvaluateOptions(edited, result.output, limits, result.force, command_line())
    plan = command.plan(requested, options)
    if result.dry_run:
        show_plan(terminal, plan.document())
        return
    with reporting(terminal) as events:
        evaluated = command.run(plan, machine.run_options(sampling), events)
    if evaluated.strength:
        terminal.note(strength_words(evaluated.strength))
    terminal.warn(*evaluated.warnings)
    document = evaluated.evaluation
    figures = plain(figures_sentence(document))
    terminal.show(document.to_json(), _rows_table(document), figures)
    if evaluated.files:
        terminal.note(f"wrote {', '.join(map(str, evaluated.files))}")
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
