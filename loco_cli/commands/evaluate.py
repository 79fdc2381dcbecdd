"""Evaluate a recipe's edit: one that was written, or one made in memory and thrown away."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from loco_cli.checkpoint.staging import write_folder
from loco_cli.commands.plans import EVALUATE_FILES, check_evaluate
from loco_cli.editing.deltas import Solved
from loco_cli.editing.methods import doubts, solve
from loco_cli.editing.neurons import rank_neurons
from loco_cli.errors import CheckFailed, VerificationError
from loco_cli.evaluating.choice import Choice, choose
from loco_cli.evaluating.judge import evaluate
from loco_cli.evaluating.show import evaluation_report, evaluation_sheet
from loco_cli.evaluation import Evaluation
from loco_cli.events import SILENT, Events
from loco_cli.interventions import FixChannels
from loco_cli.manifest import Manifest, Strength
from loco_cli.models.encoders import encoder_of
from loco_cli.models.locate import LocatedModel, locate
from loco_cli.models.session import RunOptions
from loco_cli.models.tokenizers import check_subjects
from loco_cli.outputs.paths import read_manifest
from loco_cli.recipe import Recipe
from loco_cli.report.sentences import strength_words, too_weak


@dataclass(frozen=True)
class Evaluated:
    """
    An evaluation, the files written, the limits that it fails, and what is doubtful.

    `strength` is that of an edit that was made in memory, where pictures chose it.
    """

    evaluation: Evaluation
    files: tuple[Path, ...]
    failures: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    strength: Strength | None = None

    @property
    def said(self) -> tuple[str, ...]:
        """What is said of the edit that was made for it."""
        return (strength_words(self.strength),) if self.strength else ()

    def raise_failures(self) -> None:
        """Raise CheckFailed where a figure is under its limit, or none could be counted."""
        if self.failures:
            raise CheckFailed("; ".join(self.failures))


def run(
    recipe: Recipe,
    machine: RunOptions,
    edited: str | None = None,
    output: Path | None = None,
    *,
    limits: Mapping[str, float] | None = None,
    force: bool = False,
    command: Sequence[str] = (),
    events: Events = SILENT,
) -> Evaluated:
    """
    Return the evaluation of `edited` against the recipe's model, with the files that were written.

    Without `edited` the recipe's edit is made in memory. Nothing is raised for a figure that is
    too low: that is for `raise_failures`, after the figures were shown.
    """
    located = locate(recipe.model)
    other = check_evaluate(located, recipe, edited, output, force=force)
    check_subjects(located, (pair for entry in recipe.edits for pair in entry.edit_pairs))
    if other is None:
        chosen = choose(located, recipe, machine, events)
        judged = evaluate(located, recipe, _made(located, chosen), machine, events)
        strength = chosen.strength
    else:
        judged, strength = evaluate(located, recipe, other, machine, events), None
    evaluation = judged.evaluation
    failures = _failures(evaluation, limits or {})
    warnings = () if other else (*doubts(located, recipe), *too_weak(strength))
    evaluated = Evaluated(evaluation, (), failures, warnings, strength)
    if not output:
        return evaluated
    document = json.dumps(evaluation.to_json(), indent=2) + "\n"
    report = evaluation_report(judged, recipe, command, strength, _manifest_of(edited))
    pages = (document, evaluation_sheet(judged), report)
    files = write_folder(output, dict(zip(EVALUATE_FILES, pages, strict=True)))
    return replace(evaluated, files=files)


def _made(located: LocatedModel, chosen: Choice) -> Solved | tuple[FixChannels, ...]:
    """Return the edit of a recipe in memory, or the channels that it holds at inference."""
    recipe, layers_of, encoder = chosen.recipe, chosen.layers_of, encoder_of(located)
    if recipe.edit.hold == "weights":
        return solve(located, recipe, layers_of, encoder)
    ranked = rank_neurons(located, recipe, layers_of, encoder)
    return tuple(one.fixed for of_edit in ranked for one in of_edit)


def _manifest_of(edited: str | None) -> Manifest | None:
    """Return the manifest that an edit lies with, None where there is none that can be read."""
    with suppress(VerificationError):
        found = read_manifest(Path(edited)) if edited and Path(edited).exists() else None
        return found.manifest if found else None
    return None


def figures_in_words(evaluation: Evaluation) -> str:
    """Return the figures as one line, each with its 95 % interval."""
    figures = {**evaluation.figures, "harmonic_mean": evaluation.harmonic_mean}
    words = []
    for name, value in figures.items():
        share = "–" if value is None else f"{value:.2f}"
        between = evaluation.intervals.get(name)
        ends = f" ({between[0]:.2f}–{between[1]:.2f})" if between else ""
        words.append(f"{name.replace('_', ' ')} {share}{ends}")
    if evaluation.unlabelled:
        before, after = evaluation.unlabelled
        words.append(f"score of unrelated prompts {before:.3f} → {after:.3f}")
    return ", ".join(words)


def _failures(evaluation: Evaluation, limits: Mapping[str, float]) -> tuple[str, ...]:
    unknown = [name for name, value in evaluation.figures.items() if value is None]
    failures = evaluation.below(limits)
    if unknown and not failures:
        names = ", ".join(f"`{name}`" for name in unknown)
        return (f"the base gets nothing right that {names} could be counted over",)
    return failures
