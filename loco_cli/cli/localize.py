"""`loco localize`: find the layers that hold a concept."""

from dataclasses import replace
from typing import Annotated, Literal

import typer

from loco_cli.cli import options as o
from loco_cli.cli import request as g
from loco_cli.cli.console import Terminal
from loco_cli.cli.results import localize_parts
from loco_cli.methods import LOCALIZE_METHODS, LOCOGEN, LocalizeMethodName, join_choices


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
            help=f"How a layer is tried: {join_choices(LOCALIZE_METHODS)}.",
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
    recipe = g.recipe_of(
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
    from loco_cli.cli.listener import reporting, show_plan
    from loco_cli.commands import localize as command
    from loco_cli.report.sentences import cost_words

    asked_for = (where.named(), neurons, computing.batch_size)
    options = command.LocalizeOptions(result.output, result.force, g.command_line(), *asked_for)
    plan = command.plan(recipe, options)
    if result.dry_run:
        show_plan(terminal, plan.document())
        return
    if plan.finds_states and plan.localize:
        terminal.say(f"tracing takes at most {cost_words(plan.localize)}")
    machine = replace(computing.machine(running), team=terminal.team)
    with reporting(terminal) as events:
        found = command.run(plan, machine, events)
    terminal.show(found.to_json(), *localize_parts(found, recipe.localize.required_effect))
    if found.files:
        terminal.say(f"wrote {', '.join(map(str, found.files))}")


def _width(text: str | None) -> int | str | None:
    return int(text) if text and text.isdecimal() and len(text) < 10 else text
