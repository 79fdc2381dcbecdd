"""Edit a concept: find its layers or take those named, solve, write, and say what was done."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loco_cli.checkpoint.header import shown
from loco_cli.checkpoint.slot import TensorSlot
from loco_cli.localization import Localization
from loco_cli.manifest import Manifest
from loco_cli.recipe import LocalizeSettings, Recipe, render_recipe
from loco_cli.report.pictures import Swept
from loco_cli.report.words import scattered, shortfall, taken_for_enough
from loco_cli.workflows.choosing import choose
from loco_cli.workflows.opening.encoders import encoder_of
from loco_cli.workflows.opening.locate import locate
from loco_cli.workflows.opening.machine import Machine
from loco_cli.workflows.opening.texts import check_subjects
from loco_cli.workflows.planning.checks import check_edit
from loco_cli.workflows.progress import Notify, Progress, silent
from loco_cli.workflows.solving.changes import Solved, edited_slots, iter_new_weights
from loco_cli.workflows.solving.foresight import Foresight
from loco_cli.workflows.solving.methods import doubts, touched
from loco_cli.workflows.solving.solve import solve
from loco_cli.workflows.writing.export_lora import write_adapter
from loco_cli.workflows.writing.outputs import EditOptions
from loco_cli.workflows.writing.pages import promised
from loco_cli.workflows.writing.record import Job, Record, figures_of
from loco_cli.workflows.writing.write import WriteOptions, WrittenEdit, edited_copy

Tell = Callable[[Localization], None]
Foretell = Callable[[Foresight], None]


@dataclass(frozen=True)
class Edited:
    """A finished edit: what was written, the sweeps that found the layers, and what is doubtful."""

    written: WrittenEdit
    sweeps: tuple[Swept, ...]
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


def unheard(found: Localization | Foresight) -> None:
    """Tell nobody what was found, or what is to come."""


def run(
    recipe: Recipe,
    options: EditOptions,
    machine: Machine,
    notify: Notify = silent,
    tell: Tell = unheard,
    foretell: Foretell = unheard,
) -> Edited:
    """
    Return the written edit; nothing appears under its final name before all of it is whole.

    What was found of the layers, where they had to be found, is told before the edit begins; what
    is known of the edit before anything of it has its final name.
    """
    located = locate(recipe.model)
    check_edit(located, recipe, options)
    check_subjects(located, (pair for entry in recipe.edits for pair in entry.edit_pairs()))
    chosen = choose(located, recipe, machine, notify, tell)
    sweeps, layers_of = chosen.sweeps, chosen.layers_of
    job = Job(located, recipe, options, sweeps, chosen.strength)

    def solved() -> Solved:
        notify(Progress("solving", 0, 1))
        found = solve(located, chosen.recipe, layers_of, encoder_of(located))
        notify(Progress("solving", 1, 1))
        notify(Progress("writing", 0, 1))
        return found

    # what the command line set has to be said by the file, which is run without it
    text = render_recipe(recipe) if recipe.overrides else recipe.text
    with promised(options.save_recipe, text):
        if options.form == "lora":
            written = write_adapter(job, solved, foretell)
        else:
            slots = edited_slots(located, touched(located, recipe, layers_of))
            written = _write_copy(job, slots, solved, foretell)
    notify(Progress("writing", 1, 1))
    warnings = (*doubts(located, recipe), *_doubts(sweeps, recipe.localize))
    return Edited(written, sweeps, (*warnings, *_limits(written.manifest)))


def _write_copy(
    job: Job, slots: tuple[TensorSlot, ...], solved: Callable[[], Solved], foretell: Foretell
) -> WrittenEdit:
    """Return an edited copy; the base is copied and hashed while the edit is being solved."""
    wanted = WriteOptions(job.title, job.options.stamp, job.options.force)
    with edited_copy(job.located.checkpoint, job.paths.root, slots, wanted) as copy:
        found, figures = solved(), []
        for new in iter_new_weights(job.located, found):
            copy.put(new.slot, new.content)
            figures.append(figures_of(new))
        record = Record(job, found, figures)
        foretell(record.foresight)
        return copy.finish(record.manifest, record.pages)


def _doubts(sweeps: Sequence[Swept], settings: LocalizeSettings) -> tuple[str, ...]:
    """Return a sentence for each localization that did not find enough, or not in a range."""
    said = [shortfall(one.localization, settings.wanted) for one in sweeps]
    said += [taken_for_enough(one.localization, settings.wanted) for one in sweeps]
    if settings.window is None:
        said += [scattered(one.localization, settings.effect) for one in sweeps]
    return tuple(sentence for sentence in said if sentence)


def _limits(manifest: Manifest) -> tuple[str, ...]:
    said = [f"the edit does not reach {limit}" for limit in manifest.model.unreachable]
    carried = ", ".join(f"`{shown(path)}`" for path in manifest.base.carried)
    if carried and manifest.output.kind == "checkpoint":
        said.append(f"these weights are copied as they are, and not edited: {carried}")
    return tuple(said)
