"""`loco localize`: find the layers that hold a concept."""

from dataclasses import replace
from typing import Annotated, Literal

import typer

from loco_cli.cli import options as o
from loco_cli.cli.console import Terminal
from loco_cli.cli.request import (
    ConceptOptions,
    LayerOptions,
    MachineOptions,
    OutputOptions,
    SamplingOptions,
    command_line,
    recipe_of,
    spread,
)
from loco_cli.cli.results import localize_parts
from loco_cli.methods import LOCALIZE_METHODS, LOCOGEN, LocalizeMethodName, join_choices


@spread
def localize(
    ctx: typer.Context,
    concept: o.ConceptArgument,
    concept_options: ConceptOptions,
    layers: LayerOptions,
    sampling: SamplingOptions,
    machine: MachineOptions,
    result: OutputOptions,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt",
            metavar="TEMPLATE",
            help="A source prompt with {subject}. Repeatable.",
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            metavar="TEMPLATE",
            help="A target prompt with {to}: one for all, or one for each --prompt.",
        ),
    ] = None,
    method: Annotated[
        LocalizeMethodName | None,
        typer.Option(
            "--method",
            metavar="METHOD",
            help=f"The localization method: {join_choices(LOCALIZE_METHODS)}.",
            show_default=LOCOGEN.name,
        ),
    ] = None,
    search: Annotated[
        Literal["fast", "exhaustive"] | None,
        typer.Option(
            "--search",
            metavar="SEARCH",
            help="fast tests only promising layer ranges. exhaustive tests every range.",
            show_default="fast",
        ),
    ] = None,
    width: Annotated[
        str | None,
        typer.Option(
            "--width",
            metavar="auto|N",
            help="Layers in a range. auto picks the narrowest range that has enough effect.",
            show_default="auto",
        ),
    ] = None,
    window: Annotated[
        Literal["contiguous", "set"] | None,
        typer.Option(
            "--window",
            metavar="FORM",
            help="contiguous finds a range of layers. "
            "set finds the smallest set of layers with enough effect.",
            show_default="contiguous",
        ),
    ] = None,
    neurons: o.Neurons = None,
    pooled: Annotated[
        bool | None,
        typer.Option(
            "--pooled",
            help="Also swap the pooled embedding of SDXL and IF, which bypasses the layers.",
            show_default=False,
        ),
    ] = None,
    component: Annotated[
        Literal["unet", "text-encoder"] | None,
        typer.Option(
            "--component",
            metavar="NAME",
            help="The component in which causal tracing restores states: unet or text-encoder.",
            show_default="text-encoder",
        ),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            "--noise",
            metavar="F",
            min=0.0,
            help="Noise of causal tracing, in standard deviations of the token embeddings.",
            show_default="3",
        ),
    ] = None,
) -> None:
    """
    Find the layers that hold a concept.

    loco feeds the target prompt to one range of cross-attention layers at a
    time. If this removes the concept from the images, the range holds it.

    With --method causal-trace, loco adds noise to the subject's tokens and
    restores one state of the model at a time from the clean run. If this brings
    the concept back, the state holds it.

    Example: loco localize "van gogh style" --output found
    """
    recipe = recipe_of(
        concept,
        model=concept_options.model,
        to=concept_options.to,
        kind=concept_options.kind,
        prompts=prompt,
        targets=target,
        settings=sampling.settings,
        localize_method=method,
        localize_search=search,
        localize_width=_width(width),
        localize_window=window,
        localize_pooled=pooled,
        localize_component=component,
        localize_noise=noise,
        **sampling.overrides("localize"),
    )
    terminal: Terminal = ctx.obj
    from loco_cli.cli.listener import reporting, show_plan
    from loco_cli.commands import localize as command
    from loco_cli.report.sentences import cost_words

    own_settings = (layers.named(), neurons, machine.batch_size)
    options = command.LocalizeOptions(result.output, result.force, command_line(), *own_settings)
    plan = command.plan(recipe, options)
    if result.dry_run:
        show_plan(terminal, plan.document())
        return
    if plan.finds_states and plan.localize:
        terminal.note(f"tracing takes at most {cost_words(plan.localize)}")
    run_options = replace(machine.run_options(sampling), team=terminal.team)
    with reporting(terminal) as events:
        found = command.run(plan, run_options, events)
    terminal.show(found.to_json(), *localize_parts(found, recipe.localize.required_effect))
    if found.files:
        terminal.note(f"wrote {', '.join(map(str, found.files))}")


def _width(text: str | None) -> int | str | None:
    return int(text) if text and text.isdecimal() and len(text) < 10 else text
