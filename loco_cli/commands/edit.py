"""Edit a concept: find its layers or take those named, solve, write, and say what was done."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loco_cli.checkpoint.reader import TensorSlot, tensor_bytes
from loco_cli.checkpoint.staging import written_on_success
from loco_cli.editing.deltas import Solved, iter_new_weights
from loco_cli.editing.methods import doubts, edited_slots, solve
from loco_cli.errors import RequestError, printable
from loco_cli.evaluating.choice import check_solve, choose
from loco_cli.events import SILENT, Events
from loco_cli.localization import LocalizationRun
from loco_cli.manifest import Manifest
from loco_cli.models.encoders import encoder_of
from loco_cli.models.locate import LocatedModel, locate
from loco_cli.models.session import RunOptions
from loco_cli.models.tokenizers import check_subjects
from loco_cli.outputs.checkpoint import WriteOptions, WrittenEdit, edited_copy
from loco_cli.outputs.guards import check_file
from loco_cli.outputs.lora import edited_lora
from loco_cli.outputs.manifest import Job, ManifestBuilder
from loco_cli.outputs.paths import EditOptions, OutputPaths, check_output, needed_bytes
from loco_cli.recipe import LocalizeSettings, Recipe, render_recipe
from loco_cli.report.sentences import accepted_below_target, noncontiguous, shortfall


@dataclass(frozen=True)
class Edited:
    """A finished edit: what was written, the sweeps that found the layers, and what is doubtful."""

    written: WrittenEdit
    sweeps: tuple[LocalizationRun, ...]
    warnings: tuple[str, ...]

    def files_in_words(self) -> str:
        """Return a sentence on the files that were written."""
        paths, manifest = self.written.paths, self.written.paths.manifest.name
        if self.written.manifest.output.kind == "lora":
            return f"wrote {paths.root} and its manifest {manifest}; the base stays as it is"
        return (
            f"wrote {paths.root}, its manifest {manifest}, its undo file {paths.undo.name} "
            f"and its report {paths.report.name}"
        )


def run(
    recipe: Recipe,
    options: EditOptions,
    machine: RunOptions,
    events: Events = SILENT,
) -> Edited:
    """
    Return the written edit; nothing appears under its final name before all of it is whole.

    What was found of the layers, where they had to be found, is told before the edit begins; what
    is known of the edit before anything of it has its final name.
    """
    located = locate(recipe.model)
    check_edit(located, recipe, options)
    check_subjects(located, (pair for entry in recipe.edits for pair in entry.edit_pairs))
    chosen = choose(located, recipe, machine, events)
    sweeps, layers_of = chosen.sweeps, chosen.layers_of
    job = Job(located, recipe, options, sweeps, chosen.strength)

    def solved() -> Solved:
        events.progress("solving", 0, 1)
        found = solve(located, chosen.recipe, layers_of, encoder_of(located))
        events.progress("solving", 1, 1)
        events.progress("writing", 0, 1)
        return found

    # what the command line set has to be said by the file, which is run without it
    text = render_recipe(recipe) if recipe.overrides else recipe.text
    with written_on_success(options.save_recipe, text):
        if options.form == "lora":
            with edited_lora(job) as lora:
                written = lora.finish(solved(), events)
        else:
            slots = edited_slots(located, recipe, layers_of)
            written = _write_copy(job, slots, solved, events)
    events.progress("writing", 1, 1)
    warnings = (*doubts(located, recipe), *_doubts(sweeps, recipe.localize))
    return Edited(written, sweeps, (*warnings, *_limits(written.manifest)))


def _write_copy(
    job: Job, slots: tuple[TensorSlot, ...], solved: Callable[[], Solved], events: Events
) -> WrittenEdit:
    """Return an edited copy; the base is copied and hashed while the edit is being solved."""
    wanted = WriteOptions(job.title, job.options.stamp, job.options.force)
    with edited_copy(job.located.checkpoint, job.paths.root, slots, wanted) as copy:
        found, edits = solved(), []
        for slot, stored, edit in iter_new_weights(job.located, found):
            copy.put(slot, tensor_bytes(stored, slot), edit)
            edits.append(edit)
        record = ManifestBuilder(job, found, edits)
        events.previewed(record.preview)
        return copy.finish(record.manifest, record.pages)


def _doubts(sweeps: Sequence[LocalizationRun], settings: LocalizeSettings) -> tuple[str, ...]:
    """Return a sentence for each localization that did not find enough, or not in a range."""
    said = [shortfall(one.localization, settings.wanted) for one in sweeps]
    said += [accepted_below_target(one.localization, settings.wanted) for one in sweeps]
    if settings.window is None:
        said += [noncontiguous(one.localization, settings.effect) for one in sweeps]
    return tuple(sentence for sentence in said if sentence)


def _limits(manifest: Manifest) -> tuple[str, ...]:
    said = [f"the edit does not reach {limit}" for limit in manifest.model.unreachable]
    carried = ", ".join(f"`{printable(path)}`" for path in manifest.base.carried)
    if carried and manifest.output.kind == "checkpoint":
        said.append(f"these weights are copied as they are, and not edited: {carried}")
    return tuple(said)


def check_edit(located: LocatedModel, recipe: Recipe, options: EditOptions) -> None:
    """Raise where the edit cannot be made and written as asked."""
    is_copy = options.form == "checkpoint"
    if recipe.edit.hold == "inference":
        raise RequestError(
            "neurons are to be held at inference, and an edit is one of weights",
            "use `loco evaluate`, or `--set edit.hold=weights`",
        )
    check_solve(located, recipe)
    check_output(
        located.checkpoint,
        options.paths(located, recipe),
        needed_bytes=needed_bytes(located.checkpoint, 0) if is_copy else 0,
        force=options.force,
    )
    if options.save_recipe:
        _check_apart(options.save_recipe, options.paths(located, recipe))
        check_file(options.save_recipe, located.checkpoint, force=options.force, what="recipe")


def _check_apart(saved: Path, paths: OutputPaths) -> None:
    """Raise RequestError where a recipe is to be saved in the place of an output, or inside it."""
    place, root = saved.resolve(), paths.root.resolve()
    beside = () if paths.is_folder else (path.resolve() for path in paths.beside)
    if place == root or root in place.parents or place in beside:
        raise RequestError(
            f"the recipe to save, `{printable(saved)}`, lies in the output "
            f"`{printable(paths.root)}`",
            f"choose another `--save-recipe`; the output has its recipe in `{paths.recipe.name}`",
        )
