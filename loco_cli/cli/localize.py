"""`loco localize`: find the layers that hold a concept."""

from typing import Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from loco_cli.cli import groups as g
from loco_cli.cli import options as o
from loco_cli.cli.console import Terminal, plain
from loco_cli.cli.request import command_line, recipe_of
from loco_cli.cli.scores import heading, scores_table


@g.spread
def localize(
    ctx: typer.Context,
    concept: o.ConceptArgument,
    asked: g.Concept,
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
    pooled: Annotated[
        bool | None,
        typer.Option(
            "--pooled",
            help="Swap the pooled prompt of SDXL and IF as well, which no layer reads.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """
    Find the layers that hold a concept.

    Every range of cross-attention layers is given the target prompt in turn; the range after
    whose swap the picture fits the source prompt least holds the concept.

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
        localize_pooled=pooled,
        **running.overrides("localize"),
    )
    terminal: Terminal = ctx.obj
    from loco_cli.workflows import planning

    plan = planning.localize(recipe, result.output, force=result.force)
    if result.dry_run:
        terminal.show(plan.to_json(), *map(plain, planning.in_words(plan)))
        return
    from loco_cli.workflows import localize as workflow

    with terminal.progress() as notify:
        found = workflow.run(
            recipe,
            computing.machine(running.scorer),
            result.output,
            force=result.force,
            command=command_line(),
            notify=notify,
        )
    parts: list[Text | Table] = []
    for one in found.localizations:
        parts += [heading(one), scores_table(one), *map(plain, workflow.conclusion(one))]
    terminal.show(found.to_json(), *parts)
    if found.files:
        terminal.say(f"wrote {', '.join(map(str, found.files))}")


def _width(text: str | None) -> int | str | None:
    return int(text) if text and text.isdecimal() and len(text) < 10 else text
