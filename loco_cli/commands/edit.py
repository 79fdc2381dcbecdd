"""`loco edit`: find layers or take those named, solve, write, and report what was done."""

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
    An edit that was checked: what to solve, where to write it, and what finding the rest costs.

    `localize` and `strength` are the pictures that find layers and strength, at most; None where
    the recipe names these.
    """

    edit: ModelEdit
    options: EditOptions
    paths: OutputPaths
    localize: PlannedRuns | None
    strength: PlannedRuns | None

    def document(self) -> Plan:
        """Return the plan as `--dry-run` prints it."""
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
            # how long the factors of a LoRA are is known when the edit is solved
            output_bytes=needed_bytes(located.checkpoint, 0) if is_copy else None,
            limits=unreached_parts(located, recipe),
            texts=located.borrowed_from,
        )


def plan(recipe: Recipe, options: EditOptions) -> EditPlan:
    """Return what an edit will do; raises where it cannot be made and written as asked."""
    located = locate(recipe.model)
    if recipe.edit.hold == "inference":
        raise RequestError(
            "neurons are to be held at inference, and an edit is one of weights",
            "use `loco evaluate`, or `--set edit.hold=weights`",
        )
    edit = plan_model_edit(located, recipe)
    paths = options.paths(located, recipe)
    _check_places(edit, options, paths)
    pairs = [pair for entry in recipe.edits for pair in entry.edit_pairs]
    if edit.layers_of is None:
        pairs += [pair for entry in recipe.edits for pair in entry.localize_pairs]
    check_subjects(located, pairs)
    return EditPlan(edit, options, paths, cost_of_layers(edit), cost_of_strength(edit))


def run(plan: EditPlan, machine: RunOptions, events: Events = SILENT_EVENTS) -> "EditResult":
    """Return the written edit; nothing appears under its final name before all of it is whole."""
    recipe, options = plan.edit.recipe, plan.options
    edit = choose_layers_and_strength(plan.edit, machine, events)
    write = _write_lora if options.form == "lora" else _write_copy
    # what the command line set has to be said by the file, which is run without it
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
    """Return an edited copy; the base is copied and hashed while the edit is being solved."""
    from loco_cli.checkpoint.reader import tensor_bytes
    from loco_cli.editing.deltas import iter_new_weights
    from loco_cli.outputs.checkpoint import edited_copy
    from loco_cli.outputs.manifest import ManifestBuilder

    options, located = plan.options, edit.located
    what = edit.title if options.stamp else None
    with edited_copy(located.checkpoint, plan.paths, edit.slots, what, force=options.force) as copy:
        solved, tensors = _solved(edit, events), []
        for slot, stored, tensor in iter_new_weights(located, solved):
            copy.put(slot, tensor_bytes(stored, slot), tensor)
            tensors.append(tensor)
        builder = ManifestBuilder(edit, options, solved, tensors)
        events.previewed(builder.preview)
        return copy.finish(builder.manifest, builder.pages)


def _write_lora(edit: ModelEdit, plan: EditPlan, events: Events) -> "EditResult":
    """Return the edit as a LoRA; the base is hashed while the edit is being solved."""
    from loco_cli.outputs.lora import edited_lora

    with edited_lora(edit, plan.options, plan.paths) as lora:
        return lora.finish(_solved(edit, events), events)


def _solved(edit: ModelEdit, events: Events) -> "SolvedEdit":
    from loco_cli.models.encoders import encoder_of  # torch lives behind this line

    events.progress("solving", 0, 1)
    solved = solve(edit.located, edit.solved_recipe, edit.layers_of or (), encoder_of(edit.located))
    events.progress("solving", 1, 1)
    events.progress("writing", 0, 1)
    return solved


def _check_places(edit: ModelEdit, options: EditOptions, paths: OutputPaths) -> None:
    """Raise where output or recipe cannot be written, or would be where something is read."""
    base, saved, room = edit.located.checkpoint, options.save_recipe, 0
    if options.form == "checkpoint":
        room = needed_bytes(base, sum(slot.end - slot.begin for slot in edit.slots))
    check_output(base, paths, needed_bytes=room, force=options.force)
    if saved is None:
        return
    place, root = saved.resolve(), paths.root.resolve()
    beside = () if paths.is_folder else (path.resolve() for path in paths.beside)
    if place == root or root in place.parents or place in beside:
        raise RequestError(
            f"the recipe to save, `{printable(saved)}`, lies in the output "
            f"`{printable(paths.root)}`",
            f"choose another `--save-recipe`; the output has its recipe in `{paths.recipe.name}`",
        )
    check_file(saved, base, force=options.force, role="recipe")
