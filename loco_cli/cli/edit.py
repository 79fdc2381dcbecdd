"""`loco edit`: write an edited copy of a checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from loco_cli.cli import options as o
from loco_cli.cli.console import Terminal, plain, table
from loco_cli.cli.request import build_time, command_line, layer_list, recipe_of

if TYPE_CHECKING:
    from rich.table import Table

    from loco_cli.manifest import Manifest


def edit(
    ctx: typer.Context,
    recipe: o.RecipeArgument,
    model: o.Model = None,
    to: o.To = None,
    kind: o.Kind = None,
    as_form: Annotated[
        Literal["checkpoint", "lora"],
        typer.Option("--as", help="What to write.", rich_help_panel="Output"),
    ] = "checkpoint",
    method: Annotated[
        Literal["locoedit", "diffquickfix", "neurons"] | None,
        typer.Option("--method", help="How the weights are solved for.", show_default="locoedit"),
    ] = None,
    layer_range: o.LayerRange = None,
    layers: o.Layers = None,
    ridge: Annotated[
        str | None,
        typer.Option(
            "--ridge", metavar="VALUE", help="auto, a number, or like 0.01x of the keys' scale."
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
    force: o.Force = False,
    dry_run: o.DryRun = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    epoch: o.Epoch = None,
) -> None:
    """
    Write an edited copy of a checkpoint, with its manifest and what undoes it.

    The layers are found first, unless the recipe or an option names them.

    Example: loco edit remove_style --output edited
    """
    asked = recipe_of(
        recipe,
        model=model,
        to=to,
        kind=kind,
        settings=settings,
        edit_method=method,
        edit_layer_range=layer_range,
        edit_layers=layer_list(layers, layer_range),
        edit_ridge=ridge,
        localize_seeds=seeds,
        localize_steps=steps,
        localize_guidance=guidance,
    )
    terminal: Terminal = ctx.obj
    from loco_cli.workflows import planning
    from loco_cli.workflows.checks import EditOptions

    options = EditOptions(
        output, not no_stamp, force, command_line(), save_recipe, as_form, build_time(epoch)
    )
    plan = planning.edit(asked, options)
    if dry_run:
        terminal.show(plan.to_json(), *map(plain, planning.in_words(plan)))
        return
    if plan.localize:
        terminal.say(f"first finding the layers: {planning.price_in_words(plan.localize)}")
    from loco_cli.workflows import edit as workflow
    from loco_cli.workflows.machine import Machine

    machine = Machine(device, dtype, batch_size or "auto", scorer)
    with terminal.progress() as notify:
        edited = workflow.run(asked, options, machine, notify)
    for warning in edited.warnings:
        terminal.warn(warning)
    paths, manifest = edited.written.paths, edited.written.manifest
    terminal.show(manifest.to_json(), *map(plain, edited.in_words()), _tensors_table(manifest))
    beside = f"its manifest {paths.manifest.name} and its undo file {paths.undo.name}"
    terminal.say(f"wrote {paths.root}, {beside}")


def _tensors_table(manifest: "Manifest") -> "Table":
    shown = table("rank", "change", "tensor")
    shown.columns[-1].overflow = "fold"  # a name that is cut cannot be copied
    for tensor in manifest.tensors:
        shown.add_row(str(tensor.rank), f"{tensor.relative_change:.4f}", plain(tensor.name))
    return shown
