"""`loco localize`: find the layers that hold a concept."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from loco_cli.cli import options as o
from loco_cli.cli.console import Terminal, plain, table
from loco_cli.cli.request import command_line, recipe_of

if TYPE_CHECKING:
    from loco_cli.localization import Localization

BAR_WIDTH = 24


def localize(
    ctx: typer.Context,
    concept: o.ConceptArgument,
    model: o.Model = None,
    to: o.To = None,
    kind: o.Kind = None,
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
        Literal["locogen", "contribution", "causal-trace", "neurons"] | None,
        typer.Option("--method", help="How a layer is tried.", show_default="locogen"),
    ] = None,
    search: Annotated[
        Literal["fast", "exhaustive"] | None,
        typer.Option(
            "--search", help="Try every range, or rank cheaply first.", show_default="exhaustive"
        ),
    ] = None,
    width: Annotated[
        str | None,
        typer.Option(
            "--width",
            metavar="auto|N",
            help="Layers in a range; auto: the narrowest that is enough.",
            show_default="2",
        ),
    ] = None,
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
    Find the layers that hold a concept.

    Every range of cross-attention layers is given the target prompt in turn; the range after
    whose swap the picture fits the source prompt least holds the concept.

    Example: loco localize "van gogh style" --output found
    """
    recipe = recipe_of(
        concept,
        model=model,
        to=to,
        kind=kind,
        prompts=prompt,
        targets=target,
        settings=settings,
        localize_method=method,
        localize_search=search,
        localize_width=_width(width),
        localize_seeds=seeds,
        localize_steps=steps,
        localize_guidance=guidance,
    )
    terminal: Terminal = ctx.obj
    from loco_cli.workflows import planning

    plan = planning.localize(recipe, output, force=force)
    if dry_run:
        terminal.show(plan.to_json(), *map(plain, planning.in_words(plan)))
        return
    from loco_cli.workflows import localize as workflow
    from loco_cli.workflows.machine import Machine

    machine = Machine(device, dtype, batch_size or "auto", scorer)
    with terminal.progress() as notify:
        found = workflow.run(
            recipe, machine, output, force=force, command=command_line(), notify=notify
        )
    parts: list[Text | Table] = []
    for one in found.localizations:
        parts += [_heading(one), _scores_table(one), *map(plain, workflow.conclusion(one))]
    terminal.show(found.to_json(), *parts)
    if found.files:
        terminal.say(f"wrote {', '.join(map(str, found.files))}")


def _width(text: str | None) -> int | str | None:
    return int(text) if text and text.isdecimal() and len(text) < 10 else text


def _heading(found: "Localization") -> Text:
    concept = found.concept
    return plain(
        f"{concept.kind} `{concept.subject}` in {found.model.name}: "
        f"{len(found.prompts)} prompts, {len(found.seeds)} seeds, {found.steps} steps",
        "bold",
    )


def _scores_table(found: "Localization") -> Table:
    shown = table("layers", "score", "± stderr", "effect", "")
    chosen = tuple(layer.layer for layer in found.layers)
    for score in found.scores:
        is_chosen = score.layer_set == chosen
        shown.add_row(
            str(list(score.layer_range or score.layer_set)),
            f"{score.score:.3f}",
            f"{score.stderr:.3f}",
            "–" if score.effect is None else f"{score.effect:.2f}",
            _bar(score.effect or 0.0, is_chosen),
            style="bold" if is_chosen else "",
        )
    return shown


def _bar(effect: float, is_chosen: bool) -> Text:
    filled = round(min(max(effect, 0.0), 1.0) * BAR_WIDTH)
    bar = Text("█" * filled, "dark_orange" if is_chosen else "bright_black")
    return bar.append(" ◀ chosen" if is_chosen else "", "bold")
