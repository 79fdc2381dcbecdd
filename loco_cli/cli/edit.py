"""`loco edit`: write an edited copy of a checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from loco_cli.cli import options as o
from loco_cli.cli.console import Terminal, plain, table
from loco_cli.cli.request import (
    ConceptOptions,
    LayerOptions,
    MachineOptions,
    OutputOptions,
    SamplingOptions,
    SolverOptions,
    build_time,
    command_line,
    recipe_of,
    spread,
)

if TYPE_CHECKING:
    from rich.table import Table

    from loco_cli.manifest import Manifest


@spread
def edit(
    ctx: typer.Context,
    recipe: o.RecipeArgument,
    concept: ConceptOptions,
    layers: LayerOptions,
    solver: SolverOptions,
    sampling: SamplingOptions,
    machine: MachineOptions,
    result: OutputOptions,
    as_form: Annotated[
        Literal["checkpoint", "lora"],
        typer.Option(
            "--as",
            help="Write an edited checkpoint, or only the change as a LoRA.",
            rich_help_panel="Output",
        ),
    ] = "checkpoint",
    no_stamp: Annotated[
        bool,
        typer.Option(
            "--no-stamp",
            help="Do not add `loco` metadata to file headers.",
            rich_help_panel="Output",
        ),
    ] = False,
    save_recipe: Annotated[
        Path | None,
        typer.Option(
            "--save-recipe",
            metavar="PATH",
            help="Also save the recipe to this file.",
            rich_help_panel="Output",
        ),
    ] = None,
    epoch: o.Epoch = None,
) -> None:
    """
    Write an edited copy of a checkpoint, with a manifest and an undo file.

    Unless the recipe or an option names the layers, the edit starts with a
    search for them. It then also generates images to choose an edit strength
    that reaches `edit.target`.

    Example: loco edit remove_style --output edited
    """
    requested = recipe_of(
        recipe,
        model=concept.model,
        to=concept.to,
        kind=concept.kind,
        settings=sampling.settings,
        **solver.overrides(),
        **layers.overrides(),
        **sampling.overrides("localize"),
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
        command_line(),
        save_recipe,
        as_form,
        build_time(epoch),
    )
    plan = command.plan(requested, options)
    terminal.warn(*borrowed_encoders(plan.edit.located.name, plan.edit.located.borrowed_from))
    if result.dry_run:
        show_plan(terminal, plan.document())
        return
    terminal.note(*search_costs(plan.localize, plan.strength))
    with reporting(terminal) as events:
        edited = command.run(plan, machine.run_options(sampling), events)
    manifest, paths = edited.manifest, edited.paths
    terminal.show(manifest.to_json(), _tensors_table(manifest))
    report = None if as_form == "lora" else paths.report.name
    terminal.note(written_files(paths.root, paths.manifest.name, paths.undo.name, report))


def _tensors_table(manifest: "Manifest") -> "Table":
    shown = table("rank", "change", "tensor")
    shown.columns[-1].overflow = "fold"  # wraps long names, so that they can be copied
    for tensor in manifest.tensors:
        shown.add_row(str(tensor.rank), f"{tensor.relative_change:.4f}", plain(tensor.name))
    return shown
