"""Find the layers of every concept of a recipe, and write down what was found."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loco_cli.checkpoint.staging import write_folder
from loco_cli.commands.plans import LOCALIZE_FILES
from loco_cli.events import SILENT, Events
from loco_cli.localization import KNOWN_SCALE, Localization, Localizations
from loco_cli.localizing.methods import module_of, with_named
from loco_cli.localizing.runs import SearchContext
from loco_cli.methods import LOCALIZE_METHODS
from loco_cli.models.locate import locate
from loco_cli.models.session import RunOptions
from loco_cli.models.tokenizers import check_subjects
from loco_cli.outputs.guards import check_folder
from loco_cli.recipe import Recipe
from loco_cli.report.html import render_localization_report
from loco_cli.report.sentences import accepted_below_target, layer_words, range_words, shortfall
from loco_cli.report.sheet import render_localization_sheet


@dataclass(frozen=True)
class LocalizeResult:
    """The localizations of a recipe, and the files that were written."""

    localizations: tuple[Localization, ...]
    files: tuple[Path, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the document: that of the only localization, or of all."""
        if len(self.localizations) == 1:
            return self.localizations[0].to_json()
        return Localizations(localizations=self.localizations).to_json()


def run(
    recipe: Recipe,
    machine: RunOptions,
    output: Path | None = None,
    *,
    layers: Sequence[int] | None = None,
    neurons: int | None = None,
    force: bool = False,
    command: Sequence[str] = (),
    events: Events = SILENT,
) -> LocalizeResult:
    """Return the localizations of a recipe; with `output` write them, sheet and report there."""
    located = locate(recipe.model)
    if output:
        check_folder(output, LOCALIZE_FILES, located.checkpoint, force=force)
    if LOCALIZE_METHODS[recipe.localize.method].finds == "neurons":
        machine.team.check_alone("a list of neurons")
    method = module_of(recipe.localize)
    recipe, layers_of = with_named(located, recipe, layers, neurons)
    method.check(located, recipe, layers_of)
    check_subjects(located, (pair for entry in recipe.edits for pair in entry.localize_pairs))
    sweeps = method.run(SearchContext.load(located, machine, events), recipe, layers_of)
    found = LocalizeResult(tuple(one.localization for one in sweeps))
    if output and machine.team.is_first:
        document = json.dumps(found.to_json(), indent=2) + "\n"
        sheet = render_localization_sheet(sweeps)
        report = render_localization_report(sweeps, command=command)
        pages = (document, sheet, report)
        files = write_folder(output, dict(zip(LOCALIZE_FILES, pages, strict=True)))
        found = LocalizeResult(found.localizations, files)
    machine.team.part()
    return found


def conclusion(found: Localization, wanted: float | None = None) -> tuple[str, ...]:
    """
    Return what a localization says, in sentences.

    One that found nothing says so, and one that found less than the effect `wanted`.
    """
    span = abs(found.original_score - found.target_score)
    noise = max((score.stderr for score in found.scores), default=0.0)
    if span == 0 or span < 2 * noise:
        return (
            f"swapping every layer hardly changes the score ({found.original_score:.3f} to "
            f"{found.target_score:.3f}): the model, or the scorer, does not know this concept",
        )
    where = f"{layer_words(found.layer_set)} ({range_words(found.layer_set)})"
    share = f"{found.effect or 0.0:.0%} of what swapping all layers does"
    paths = tuple(f"layer {layer.layer} is {layer.module_path}" for layer in found.layers)
    details = (*paths, *_how_sure(found), *_how_vague(found, wanted), *_past_the_layers(found))
    if found.neurons:
        whole = found.neurons.layer_effect or 0.0
        n, n_all = len(found.neurons.channels), 2 * len(found.layers)
        return (
            f"holding {n} channels of {n_all} projections in {where} makes {share}; "
            f"swapping these layers whole makes {whole:.0%}",
            *details,
        )
    if found.ranking is None and len(found.scores) == 1:
        return (f"swapping {where} makes {share}{_give_or_take(found)}", *details)
    lacking = shortfall(found, wanted)
    if lacking:
        return (lacking, *details)
    how_far = _give_or_take(found) if found.window else ""
    return (f"the concept lies in {where}: swapping there makes {share}{how_far}", *details)


def _give_or_take(found: Localization) -> str:
    chosen = next((one for one in found.scores if one.layer_set == found.layer_set), None)
    if chosen is None or chosen.n < 2:
        return ""
    return f", give or take {chosen.stderr / abs(found.original_score - found.target_score):.0%}"


def _how_sure(found: Localization) -> tuple[str, ...]:
    """Return what a search that leaves windows out can say for itself."""
    if found.ranking is None:
        return ()
    if LOCALIZE_METHODS[found.method].ranks:
        return (
            "of the layers to which the subject adds most these do most; "
            "`--method locogen` tries more",
        )
    n_layers, n_tried = len(found.ranking), len(found.scores)
    if found.window:
        return _how_small(found)
    tried = f"{n_tried} ranges were tried of those that {n_layers} layers have"
    if found.margin is None:
        return (f"{tried}; `--search exhaustive` tries all",)
    ahead = f"the best is {found.margin:.1f} standard errors ahead of the next as wide"
    return (f"{tried}, {ahead}; `--search exhaustive` tries all",)


def _how_vague(found: Localization, wanted: float | None) -> tuple[str, ...]:
    """Return a sentence where what all layers do, and so every share of it, is not well known."""
    taken, error = accepted_below_target(found, wanted), found.scale_error or 0.0
    if taken:
        return (f"{taken}; more `--seeds` tell more",)
    if error <= KNOWN_SCALE:
        return ()
    return (
        f"what swapping all layers does differs from seed to seed, so that shares are known to "
        f"within {error:.0%} of themselves; more `--seeds` tell more",
    )


def _how_small(found: Localization) -> tuple[str, ...]:
    """Return what a search of sets can say for its size."""
    tried = f"{len(found.scores)} sets were tried"
    fewer = [
        one.effect or 0.0
        for one in found.scores
        if len(one.layer_set) == len(found.layers) - 1 and set(one.layer_set) < set(found.layer_set)
    ]
    if len(fewer) < len(found.layers):
        return (f"{tried}; a smaller one may be enough",)
    return (f"{tried}; without any one of these layers it is {max(fewer):.0%} at most",)


def _past_the_layers(found: Localization) -> tuple[str, ...]:
    """Return whether the prompt was swapped where a model pools it, past keys and values."""
    if found.pooled_swapped is None:
        return ()
    if found.pooled_swapped:
        return ("the pooled prompt, which `add_embedding` reads, was swapped with every range",)
    return (
        "keys and values alone were swapped: the pooled prompt, which `add_embedding` reads, "
        "stayed as it was (`--pooled` swaps it as well)",
    )
