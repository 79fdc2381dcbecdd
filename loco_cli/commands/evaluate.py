"""`loco evaluate`: measure the effect of an edit, from a file or made in memory."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from loco_cli.checkpoint.lora import Lora, is_lora, open_lora
from loco_cli.checkpoint.staging import write_folder
from loco_cli.editing.methods import caveats, solve
from loco_cli.editing.model_edit import ModelEdit
from loco_cli.errors import CheckFailed, RequestError, VerificationError
from loco_cli.evaluating.choice import choose_layers_and_strength, cost_of_layers, plan_model_edit
from loco_cli.evaluating.ladder import cost_of_strength
from loco_cli.evaluating.questions import questions
from loco_cli.evaluation import Evaluation
from loco_cli.events import SILENT_EVENTS, Events
from loco_cli.manifest import Manifest, Strength
from loco_cli.models.locate import LocatedModel, check_steps, locate
from loco_cli.models.session import RunOptions
from loco_cli.models.tokenizers import check_subjects
from loco_cli.outputs.base import check_made_from
from loco_cli.outputs.guards import check_folder
from loco_cli.outputs.paths import read_manifest
from loco_cli.plan import Plan, PlannedRuns, relative_path
from loco_cli.recipe.record import Recipe
from loco_cli.report.sentences import strength_warnings

if TYPE_CHECKING:
    from loco_cli.editing.deltas import SolvedEdit
    from loco_cli.evaluating.judge import EvaluationRun
    from loco_cli.interventions import FixChannels

FILES = ("evaluation.json", "sheet.png", "report.html")


@dataclass(frozen=True)
class EvaluateOptions:
    """
    The edit to evaluate and the output: `EvaluateOptions(edited="edited", output=Path("out"))`.

    Without `edited`, the edit of the recipe is made in memory. `limits` maps each figure to its
    required minimum.
    """

    edited: str | None = None
    output: Path | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    force: bool = False
    command: Sequence[str] = ()


@dataclass(frozen=True)
class EvaluatePlan:
    """
    A checked evaluation: the base, and the edited model to compare with it.

    `edited` is a checkpoint, a LoRA, or an edit to make in memory. For an edit in memory,
    `localize` and `strength` are upper bounds on the images that find its layers and its strength.
    """

    located: LocatedModel
    recipe: Recipe
    options: EvaluateOptions
    edited: LocatedModel | Lora | ModelEdit
    localize: PlannedRuns | None = None
    strength: PlannedRuns | None = None

    def document(self) -> Plan:
        """Return the plan that `--dry-run` prints."""
        located, settings = self.located, self.recipe.evaluate
        n_pictures = 2 * len(questions(located.spec, self.recipe)) * settings.seeds
        sampling = located.spec.sampling(settings.steps, settings.guidance)
        return Plan(
            command="evaluate",
            model=located.name,
            family=located.spec.family.name,
            path=relative_path(located.path),
            edits=self.edited.planned_edits() if isinstance(self.edited, ModelEdit) else (),
            method=self.recipe.edit.method,
            localize=self.localize,
            strength=self.strength,
            pictures=PlannedRuns.of(n_pictures, sampling),
            output=self.options.output and relative_path(self.options.output),
        )


@dataclass(frozen=True)
class EvaluateResult:
    """
    An evaluation, its files, the limits that it fails, and warnings about the edit.

    `strength` is set if the edit was made in memory and images chose its strength.
    """

    evaluation: Evaluation
    files: tuple[Path, ...] = ()
    failures: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    strength: Strength | None = None

    def raise_failures(self) -> None:
        """Raise CheckFailed if a figure is below its limit or undefined."""
        if self.failures:
            raise CheckFailed("; ".join(self.failures))


def plan(recipe: Recipe, options: EvaluateOptions = EvaluateOptions()) -> EvaluatePlan:
    """
    Return the plan of an evaluation, after all checks that need no model in memory.

    Args:
        recipe: The concepts, the base model and the settings.
        options: The edited model, the output and the limits.

    Raises:
        RequestError: The edited model does not fit the base, a subject is cut off, or the output
            exists.
        CheckpointError: One of the models is damaged.
        ModelUnavailable: A model is not on this machine and cannot be downloaded.
    """
    located = locate(recipe.model)
    check_steps(recipe.evaluate.steps)
    if options.output:
        check_folder(options.output, FILES, located.checkpoint, force=options.force)
    pairs = [pair for entry in recipe.edits for pair in entry.edit_pairs]
    if options.edited is not None:
        edited = _open_edited(located, options.edited, options)
        check_subjects(located, pairs)
        return EvaluatePlan(located, recipe, options, edited)
    edit = plan_model_edit(located, recipe)
    if edit.layers_of is None:
        pairs += [pair for entry in recipe.edits for pair in entry.localize_pairs]
    check_subjects(located, pairs)
    costs = cost_of_layers(edit), cost_of_strength(edit)
    return EvaluatePlan(located, recipe, options, edit, *costs)


def run(plan: EvaluatePlan, machine: RunOptions, events: Events = SILENT_EVENTS) -> EvaluateResult:
    """
    Execute the plan of an evaluation: generate images before and after the edit, and judge them.

    Args:
        plan: A checked evaluation.
        machine: Device, dtype, batch size, scorer and cache.
        events: Receives progress, findings and warnings.

    Returns:
        The evaluation and its files. A figure below its limit raises nothing here, so that all
        figures can be shown first; call `raise_failures` afterwards.
    """
    from loco_cli.evaluating.judge import evaluate  # imports torch

    located, recipe, options = plan.located, plan.recipe, plan.options
    strength: Strength | None = None
    warnings: tuple[str, ...] = ()
    if isinstance(plan.edited, ModelEdit):
        edit = choose_layers_and_strength(plan.edited, machine, events)
        strength = edit.strength
        judged = evaluate(located, recipe, _solve_in_memory(edit), machine, events)
        warnings = (*caveats(located, recipe), *strength_warnings(strength))
    else:
        judged = evaluate(located, recipe, plan.edited, machine, events)
    files = _write_pages(options, recipe, judged, strength) if options.output else ()
    failures = _failures(judged.evaluation, options.limits)
    return EvaluateResult(judged.evaluation, files, failures, warnings, strength)


def _write_pages(
    options: EvaluateOptions, recipe: Recipe, judged: "EvaluationRun", strength: Strength | None
) -> tuple[Path, ...]:
    """Write the JSON document, the image sheet and the report, and return their paths."""
    from loco_cli.report.html import render_evaluation_report
    from loco_cli.report.sheet import render_evaluation_sheet

    assert options.output
    report = render_evaluation_report(
        judged.evaluation,
        judged.pictures,
        title=recipe.title or recipe.name,
        recipe=recipe.text,
        command=options.command,
        strength=strength,
        manifest=_manifest_of(options.edited),
    )
    pages = (
        json.dumps(judged.evaluation.to_json(), indent=2) + "\n",
        render_evaluation_sheet(judged.evaluation, judged.pictures),
        report,
    )
    return write_folder(options.output, dict(zip(FILES, pages, strict=True)))


def _open_edited(base: LocatedModel, edited: str, options: EvaluateOptions) -> LocatedModel | Lora:
    """Return the checkpoint or LoRA at `edited`; raise if it cannot be an edit of the base."""
    file = Path(edited)
    if file.suffix == ".safetensors" and file.is_file() and is_lora(file):
        lora = open_lora(file, base.checkpoint)
        check_made_from(file, base.checkpoint)
        return lora
    other = locate(edited)
    if options.output:
        check_folder(options.output, FILES, other.checkpoint, force=options.force)
    if (other.spec.layers, other.spec.d_text) != (base.spec.layers, base.spec.d_text):
        raise RequestError(
            f"`{edited}` is not an edit of `{base.name}`: the shapes of their layers differ",
            "pass the base that it was made from with `--base`",
        )
    return other


def _solve_in_memory(edit: ModelEdit) -> "SolvedEdit | tuple[FixChannels, ...]":
    """Solve an edit without writing it, or return the channels that it holds at inference."""
    from loco_cli.editing.neurons import rank_neurons
    from loco_cli.models.encoders import encoder_of

    located, recipe, encoder = edit.located, edit.solved_recipe, encoder_of(edit.located)
    layers_of = edit.layers_of or ()
    if recipe.edit.hold == "weights":
        return solve(located, recipe, layers_of, encoder)
    ranked = rank_neurons(located, recipe, layers_of, encoder)
    return tuple(one.fixed for of_edit in ranked for one in of_edit)


def _manifest_of(edited: str | None) -> Manifest | None:
    """Return the manifest of an edited model, or None if it has no readable manifest."""
    with suppress(VerificationError):
        found = read_manifest(Path(edited)) if edited and Path(edited).exists() else None
        return found.manifest if found else None
    return None


def _failures(evaluation: Evaluation, limits: Mapping[str, float]) -> tuple[str, ...]:
    unknown = [name for name, value in evaluation.figures.items() if value is None]
    failures = evaluation.below(limits)
    if unknown and not failures:
        names = ", ".join(f"`{name}`" for name in unknown)
        return (
            f"{names} cannot be measured: the judge recognises the concept in none of the base's "
            "images",
        )
    return failures
