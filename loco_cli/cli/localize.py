"""`loco localize`: find the layers that hold a concept."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

import typer
from rich.table import Table
from rich.text import Text

from loco_cli.cli import groups as g
from loco_cli.cli import options as o
from loco_cli.cli import traces
from loco_cli.cli.console import Terminal, plain
from loco_cli.cli.request import command_line, recipe_of
from loco_cli.cli.scores import found_parts
from loco_cli.methods import LOCALIZE_METHODS, LOCOGEN, LocalizeMethodName, in_words

if TYPE_CHECKING:
    from loco_cli.commands import localize as localize_workflow
    from loco_cli.commands import trace as trace_workflow
    from loco_cli.models.session import RunOptions
    from loco_cli.recipe import Recipe


class _Named(TypedDict):
    """Layers and neurons that the command line names itself."""

    layers: Sequence[int] | None
    neurons: int | None


@g.spread
def localize(
    ctx: typer.Context,
    concept: o.ConceptArgument,
    asked: g.Concept,
    where: g.Where,
    running: g.Running,
    computing: g.Computing,
    result: g.Result,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt", metavar="TEMPLATE", help="A source prompt with {subject}; repeatable."
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            metavar="TEMPLATE",
            help="A target prompt with {to}; one, or as many as --prompt.",
        ),
    ] = None,
    method: Annotated[
        LocalizeMethodName | None,
        typer.Option(
            "--method",
            metavar="METHOD",
            help=f"How a layer is tried: {in_words(LOCALIZE_METHODS)}.",
            show_default=LOCOGEN.name,
        ),
    ] = None,
    search: Annotated[
        Literal["fast", "exhaustive"] | None,
        typer.Option(
            "--search",
            metavar="SEARCH",
            help="fast: rank cheaply and try the likely; exhaustive: try all.",
            show_default="fast",
        ),
    ] = None,
    width: Annotated[
        str | None,
        typer.Option(
            "--width",
            metavar="auto|N",
            help="Layers in a range; auto: the narrowest that is enough.",
            show_default="auto",
        ),
    ] = None,
    window: Annotated[
        Literal["contiguous", "set"] | None,
        typer.Option(
            "--window",
            metavar="FORM",
            help="contiguous: a range of layers; set: the fewest that are enough.",
            show_default="contiguous",
        ),
    ] = None,
    neurons: o.Neurons = None,
    pooled: Annotated[
        bool | None,
        typer.Option(
            "--pooled",
            help="Swap the pooled prompt of SDXL and IF as well, which no layer reads.",
            show_default=False,
        ),
    ] = None,
    component: Annotated[
        Literal["unet", "text-encoder"] | None,
        typer.Option(
            "--component",
            metavar="NAME",
            help="Where causal tracing restores states: unet or text-encoder.",
            show_default="text-encoder",
        ),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            "--noise",
            metavar="F",
            min=0.0,
            help="Causal tracing's noise, in standard deviations of the word embeddings.",
            show_default="3",
        ),
    ] = None,
) -> None:
    """
    Find the layers that hold a concept.

    Every range of cross-attention layers is given the target prompt in turn; the
    range after whose swap the picture fits the source prompt least holds the
    concept.

    With --method causal-trace the subject's words are blurred by noise instead,
    and one state of the model at a time is restored from the clean run: what
    brings the concept back carries it.

    Example: loco localize "van gogh style" --output found
    """
    recipe = recipe_of(
        concept,
        model=asked.model,
        to=asked.to,
        kind=asked.kind,
        prompts=prompt,
        targets=target,
        settings=running.settings,
        localize_method=method,
        localize_search=search,
        localize_width=_width(width),
        localize_window=window,
        localize_pooled=pooled,
        localize_component=component,
        localize_noise=noise,
        **running.overrides("localize"),
    )
    terminal: Terminal = ctx.obj
    from loco_cli.cli.listener import show_plan
    from loco_cli.commands import plans
    from loco_cli.report.sentences import cost_words

    named: _Named = {"layers": where.named(), "neurons": neurons}
    plan = plans.localize(
        recipe, result.output, force=result.force, batch_size=computing.batch_size, **named
    )
    if result.dry_run:
        show_plan(terminal, plan)
        return
    machine = replace(computing.machine(running), team=terminal.team)
    found: localize_workflow.LocalizeResult | trace_workflow.TraceResult
    if LOCALIZE_METHODS[recipe.localize.method].finds != "states":
        found, parts = _sweep(terminal, recipe, machine, result, named)
    else:
        if plan.localize:
            terminal.say(f"tracing takes at most {cost_words(plan.localize)}")
        found, parts = _trace(terminal, recipe, machine, result)
    terminal.show(found.to_json(), *parts)
    if found.files:
        terminal.say(f"wrote {', '.join(map(str, found.files))}")


def _sweep(
    terminal: Terminal, recipe: "Recipe", machine: "RunOptions", result: g.Result, named: _Named
) -> "tuple[localize_workflow.LocalizeResult, list[Text | Table]]":
    from loco_cli.cli.listener import reporting
    from loco_cli.commands import localize as workflow

    with reporting(terminal) as events:
        found = workflow.run(
            recipe,
            machine,
            result.output,
            **named,
            force=result.force,
            command=command_line(),
            events=events,
        )
    parts: list[Text | Table] = []
    for one in found.localizations:
        parts += [*found_parts(one), *map(plain, workflow.conclusion(one, recipe.localize.wanted))]
    return found, parts


def _trace(
    terminal: Terminal, recipe: "Recipe", machine: "RunOptions", result: g.Result
) -> "tuple[trace_workflow.TraceResult, list[Text | Table]]":
    from loco_cli.cli.listener import reporting
    from loco_cli.commands import trace as workflow

    with reporting(terminal) as events:
        found = workflow.run(
            recipe,
            machine,
            result.output,
            force=result.force,
            command=command_line(),
            events=events,
        )
    parts: list[Text | Table] = []
    for one in found.traces:
        parts += [traces.heading(one), traces.states_table(one)]
        parts += map(plain, workflow.conclusion(one))
    return found, parts


def _width(text: str | None) -> int | str | None:
    return int(text) if text and text.isdecimal() and len(text) < 10 else text
