"""`loco edit`: find the layers, solve for new weights, and write them with a manifest."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loco_cli.checkpoint.staging import written_on_success
from loco_cli.editing.methods import caveats, solve, unreached_parts
from loco_cli.editing.model_edit import ModelEdit
from loco_cli.errors import RequestError, printable
from loco_cli.evaluating.choice import choose_layers_and_strength, cost_of_layers, plan_model_edit
from loco_cli.evaluating.ladder import cost_of_strength
from loco_cli.events import SILENT_EVENTS, Events
from loco_cli.models.locate import locate
from loco_cli.models.session import RunOptions
from loco_cli.models.tokenizers import check_subjects
from loco_cli.outputs.guards import check_file
from loco_cli.outputs.paths import EditOptions, OutputPaths, check_output, needed_bytes
from loco_cli.plan import Plan, PlannedRuns, relative_path
from loco_cli.recipe.load import render_recipe
from loco_cli.recipe.record import Recipe
from loco_cli.report.localization import localization_warnings
from loco_cli.report.sentences import edit_limits

if TYPE_CHECKING:
    from loco_cli.editing.deltas import SolvedEdit
    from loco_cli.outputs.checkpoint import EditResult


@dataclass(frozen=True)
class EditPlan:
    """
    A checked edit, its output, and the cost of its searches.

    `localize` and `strength` are upper bounds on the images that find the layers and the strength.
    Each is None if the recipe sets its value.
    """

    edit: ModelEdit
    options: EditOptions
    paths: OutputPaths
    localize: PlannedRuns | None
    strength: PlannedRuns | None

    def document(self) -> Plan:
        """Return the plan that `--dry-run` prints."""
        located, recipe = self.edit.located, self.edit.recipe
        is_copy = self.options.form == "checkpoint"
        return Plan(
            command="edit",
            model=located.name,
            family=located.spec.family.name,
            path=relative_path(located.path),
            edits=self.edit.planned_edits(),
            method=recipe.edit.method,
            localize=self.localize,
            strength=self.strength,
            tensors=tuple(name for _, name in self.edit.tensors),
            form=self.options.form,
            output=relative_path(self.paths.root),
            # the size of a LoRA depends on ranks, which are only known after the solve
            output_bytes=needed_bytes(located.checkpoint, 0) if is_copy else None,
            limits=unreached_parts(located, recipe),
            texts=located.borrowed_from,
        )


def plan(recipe: Recipe, options: EditOptions) -> EditPlan:
    """
    Return the plan of an edit, after all checks that need no model in memory.

    Args:
        recipe: The concepts to edit, the model and the settings.
        options: The form and the paths of the output.

    Raises:
        RequestError: The recipe does not fit the model, a subject is cut off, or the output exists.
        CheckpointError: The model is damaged or cannot be edited.
        ModelUnavailable: The model is not on this machine and cannot be downloaded.
        MachineError: The disk has too little space for the output.

    Example:
        result = run(plan(recipe, EditOptions(Path("edited"))), RunOptions(device="cpu"))
    """
    located = locate(recipe.model)
    if recipe.edit.hold == "inference":
        raise RequestError(
            "`edit.hold` is `inference`, but `loco edit` can only change weights",
            "use `loco evaluate`, or pass `--set edit.hold=weights`",
        )
    edit = plan_model_edit(located, recipe)
    paths = options.paths(located, recipe)
    _check_destinations(edit, options, paths)
    pairs = [pair for entry in recipe.edits for pair in entry.edit_pairs]
    if edit.layers_of is None:
        pairs += [pair for entry in recipe.edits for pair in entry.localize_pairs]
    check_subjects(located, pairs)
    return EditPlan(edit, options, paths, cost_of_layers(edit), cost_of_strength(edit))


def run(plan: EditPlan, machine: RunOptions, events: Events = SILENT_EVENTS) -> "EditResult":
    """
    Execute the plan of an edit and return the written output.

    No file appears under its final name until all files are complete.

    Args:
        plan: A checked edit.
        machine: Device, dtype, batch size, scorer and cache of the searches.
        events: Receives progress, findings and warnings.

    Raises:
        EditError: The edit changes nothing, or its weights are not finite.
        MachineError: The output cannot be written, or the device runs out of memory.
    """
    recipe, options = plan.edit.recipe, plan.options
    edit = choose_layers_and_strength(plan.edit, machine, events)
    write = _write_lora if options.form == "lora" else _write_copy
    # the saved recipe must include the overrides of the command line
    is_rendered = options.save_recipe and recipe.overrides
    text = render_recipe(recipe) if is_rendered else recipe.text
    with written_on_success(options.save_recipe, text):
        result = write(edit, plan, events)
    events.progress("writing", 1, 1)
    found = [run.localization for run in edit.localizations]
    events.warned(
        *caveats(edit.located, recipe),
        *localization_warnings(found, recipe.localize),
        *edit_limits(result.manifest),
    )
    return result


def _write_copy(edit: ModelEdit, plan: EditPlan, events: Events) -> "EditResult":
    """Write an edited copy; the base is copied and hashed while the edit is solved."""
    from loco_cli.checkpoint.reader import tensor_bytes
    from loco_cli.editing.deltas import iter_new_weights
    from loco_cli.outputs.checkpoint import edited_copy
    from loco_cli.outputs.manifest import ManifestBuilder

    options, located = plan.options, edit.located
    title = edit.title if options.stamp else None
    slots, force = edit.slots, options.force
    with edited_copy(located.checkpoint, plan.paths, slots, title, force=force) as copy:
        solved, tensors = _solve(edit, events), []
        for slot, stored, tensor in iter_new_weights(located, solved):
            copy.put(slot, tensor_bytes(stored, slot), tensor)
            tensors.append(tensor)
        builder = ManifestBuilder(edit, options, solved, tensors)
        events.previewed(builder.preview)
        return copy.finish(builder.manifest, builder.pages)


def _write_lora(edit: ModelEdit, plan: EditPlan, events: Events) -> "EditResult":
    """Write the edit as a LoRA; the base is hashed while the edit is solved."""
    from loco_cli.outputs.lora import edited_lora

    with edited_lora(edit, plan.options, plan.paths) as lora:
        return lora.finish(_solve(edit, events), events)


def _solve(edit: ModelEdit, events: Events) -> "SolvedEdit":
    from loco_cli.models.encoders import encoder_of  # imports torch

    events.progress("solving", 0, 1)
    solved = solve(edit.located, edit.solved_recipe, edit.layers_of or (), encoder_of(edit.located))
    events.progress("solving", 1, 1)
    events.progress("writing", 0, 1)
    return solved


def _check_destinations(edit: ModelEdit, options: EditOptions, paths: OutputPaths) -> None:
    """Raise if the output or the saved recipe cannot be written, or would overwrite an input."""
    base, saved, n_bytes = edit.located.checkpoint, options.save_recipe, 0
    if options.form == "checkpoint":
        n_bytes = needed_bytes(base, sum(slot.end - slot.begin for slot in edit.slots))
    check_output(base, paths, needed_bytes=n_bytes, force=options.force)
    if saved is None:
        return
    target, root = saved.resolve(), paths.root.resolve()
    beside = () if paths.is_folder else (path.resolve() for path in paths.beside)
    if target == root or root in target.parents or target in beside:
        raise RequestError(
            f"`--save-recipe {printable(saved)}` is inside the output `{printable(paths.root)}`",
            f"choose another path; the output already has the recipe in `{paths.recipe.name}`",
        )
    check_file(saved, base, force=options.force, role="recipe")
