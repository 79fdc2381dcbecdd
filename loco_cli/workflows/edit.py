"""Edit a concept: find its layers or take those named, solve, write, and say what was done."""

from collections.abc import Sequence
from dataclasses import dataclass

from loco_cli.recipe import Recipe, render_recipe
from loco_cli.report.pictures import Swept
from loco_cli.report.words import edited_layers, layer_words
from loco_cli.workflows import sweep
from loco_cli.workflows.checks import EditOptions, check_edit, named_layers
from loco_cli.workflows.locate import Located, locate
from loco_cli.workflows.machine import Machine, check_subjects
from loco_cli.workflows.pages import write_new
from loco_cli.workflows.progress import Notify, Progress, silent
from loco_cli.workflows.record import write_record
from loco_cli.workflows.solve import NewWeight, load_encoder, new_weights, solve
from loco_cli.workflows.write import WrittenEdit

DOUBTFUL = 0.5  # a share of the full swap's effect under which an edit may well fail
COARSE = 0.05  # a share of the change that may be lost to rounding without a word


@dataclass(frozen=True)
class Edited:
    """A finished edit: what was written, the sweeps that found the layers, and what is doubtful."""

    written: WrittenEdit
    sweeps: tuple[Swept, ...]
    warnings: tuple[str, ...]

    def in_words(self) -> tuple[str, ...]:
        """Return a sentence for each edit."""
        return tuple(
            f"{edit.kind} `{edit.subject}` → `{edit.to or 'nothing'}` "
            f"in {layer_words(edited_layers(edit))}: "
            f"{edit.n_keys} keys, ridge {edit.ridge or 0:.3g}"
            for edit in self.written.manifest.edits
        )


def run(recipe: Recipe, options: EditOptions, machine: Machine, notify: Notify = silent) -> Edited:
    """Return the written edit; nothing appears under its final name before all of it is whole."""
    located = locate(recipe.model)
    check_edit(located, recipe, options)
    check_subjects(located, (pair for entry in recipe.edits for pair in entry.edit_pairs()))
    sweeps, layers_of = find_layers(located, recipe, machine, notify)
    notify(Progress("solving", 0, 1))
    solved = solve(located, recipe, layers_of, load_encoder(located))
    weights = new_weights(located, solved)
    notify(Progress("solving", 1, 1))
    notify(Progress("writing", 0, 1))
    written = write_record(located, recipe, options, sweeps, solved, weights)
    if options.save_recipe:
        # what the command line set has to be said by the file, which is run without it
        text = render_recipe(recipe) if recipe.overrides else recipe.text
        write_new(options.save_recipe, text)
    notify(Progress("writing", 1, 1))
    return Edited(written, sweeps, (*_doubts(sweeps), *_losses(weights)))


def find_layers(
    located: Located, recipe: Recipe, machine: Machine, notify: Notify = silent
) -> tuple[tuple[Swept, ...], tuple[tuple[int, ...], ...]]:
    """Return the layers of each edit, and the sweeps that had to be made to find them."""
    named = named_layers(located, recipe)
    if named is not None:
        return (), named
    sweeps = sweep.run(located, recipe, machine, notify)
    return sweeps, tuple(one.localization.layer_set for one in sweeps)


def _doubts(sweeps: Sequence[Swept]) -> tuple[str, ...]:
    """Return a sentence for each localization that did not find enough."""
    return tuple(
        f"no layer range holds `{found.concept.subject}`: the best, "
        f"{layer_words(found.layer_set)}, makes {found.effect or 0:.0%} "
        "of what swapping all layers does"
        for found in (one.localization for one in sweeps)
        if not found.is_enough(DOUBTFUL)
    )


def _losses(weights: Sequence[NewWeight]) -> tuple[str, ...]:
    worst = max(weights, key=lambda weight: weight.rounding_error)
    if worst.rounding_error <= COARSE:
        return ()
    return (
        f"rounding to {worst.slot.dtype} loses {worst.rounding_error:.0%} of the change "
        f"of `{worst.slot.key}`",
    )
