"""`loco edit`: write an edited copy of a checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from loco_cli.cli import options as o
from loco_cli.cli import request as g
from loco_cli.cli.console import Terminal, plain, table

if TYPE_CHECKING:
    from rich.table import Table

    from loco_cli.manifest import Manifest


@g.spread
def edit(
    ctx: typer.Context,
    recipe: o.RecipeArgument,
    concept: g.Concept,
    where: g.Where,
    solving: g.Solving,
    running: g.Running,
    computing: g.Computing,
    result: g.Result,
    as_form: Annotated[
        Literal["checkpoint", "lora"],
        typer.Option("--as", help="What to write.", rich_help_panel="Output"),
    ] = "checkpoint",
    no_stamp: Annotated[
        bool,
        typer.Option(
            "--no-stamp", help="Leave file headers as they are.", rich_help_panel="Output"
        ),
    ] = False,
    save_recipe: Annotated[
        Path | None,
        typer.Option(
            "--save-recipe",
            metavar="PATH",
            help="Write the recipe as a file too.",
            rich_help_panel="Output",
        ),
    ] = None,
    epoch: o.Epoch = None,
) -> None:
    """
    Write an edited copy of a checkpoint, with its manifest and what undoes it.

    The layers are found first, unless the recipe or an option names them.
    Pictures then choose the strength as well, one that reaches `edit.target`.
    With `--as lora` the change alone is written, for a base that stays as it is.

    Example: loco edit remove_style --output edited
    """
    asked = g.recipe_of(
        recipe,
        model=concept.model,
        to=concept.to,
        kind=concept.kind,
        settings=running.settings,
        **solving.overrides(),
        **where.overrides(),
        **running.overrides("localize"),
    )
    terminal: Terminal = ctx.obj
    from loco_cli.cli.listener import reporting, show_plan
    from loco_cli.commands import edit as command
    from loco_cli.outputs.paths import EditOptions
    from loco_cli.report.sentences import borrowed_encoders, search_costs, written_files

    options = EditOptions(
        result.output,
        not no_stamp,
        result.force,
        g.command_line(),
        save_recipe,
        as_form,
        g.build_time(epoch),
    )
    plan = command.plan(asked, options)
    terminal.warn(*borrowed_encoders(plan.edit.located.name, plan.edit.located.borrowed_from))
    if result.dry_run:
        show_plan(terminal, plan.document())
        return
    terminal.tell(*map(plain, search_costs(plan.localize, plan.strength)))
    with reporting(terminal) as events:
        edited = command.run(plan, computing.machine(running), events)
    manifest, paths = edited.manifest, edited.paths
    terminal.show(manifest.to_json(), _tensors_table(manifest))
    report = None if as_form == "lora" else paths.report.name
    terminal.say(written_files(paths.root, paths.manifest.name, paths.undo.name, report))


def _tensors_table(manifest: "Manifest") -> "Table":
    shown = table("rank", "change", "tensor")
    shown.columns[-1].overflow = "fold"  # a name that is cut cannot be copied
    for tensor in manifest.tensors:
        shown.add_row(str(tensor.rank), f"{tensor.relative_change:.4f}", plain(tensor.name))
    return shown
