"""
The strength of an edit, measured on pictures: the first rung that reaches the recipe's target.

Its prompts and seeds are disjoint from those that localize, solve and evaluate. The scorer judges
the pictures, as in localization, so the judge of the evaluation stays independent.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from loco_cli.editing.methods import solve
from loco_cli.editing.model_edit import with_ridge
from loco_cli.encoders.encode import CheckpointEncoder
from loco_cli.evaluating.judge import (
    EvaluationContext,
    EvaluationPlan,
    Verdicts,
    edited_pipeline,
    evaluation_of,
)
from loco_cli.evaluating.ladder import Widen, climb, trial_sampling
from loco_cli.evaluating.questions import Question, validation_questions
from loco_cli.evaluation import Evaluation, JudgedImage
from loco_cli.layers import LayerSet
from loco_cli.manifest import Strength, StrengthTrial
from loco_cli.methods import EDIT_METHODS
from loco_cli.models.encoders import encoder_of
from loco_cli.protocol.seeds import STRENGTH_SEEDS
from loco_cli.recipe.record import Recipe


def measure(
    context: EvaluationContext, recipe: Recipe, layers_of: tuple[LayerSet, ...], widen: Widen
) -> Strength:
    """
    Measure the strength that an edit needs; every rung is made in memory and undone.

    Args:
        context: The loaded model, with the scorer in the place of the judge.
        recipe: The recipe of the edit, which holds the target.
        layers_of: The layers of each edit.
        widen: Returns wider layers, or the same layers if there are no more.

    Returns:
        All rungs that were tried and the chosen one. There are no rungs if the model does not draw
        the concepts in the first place.
    """
    trials = _StrengthTrials.of(context, recipe)
    target, plans = recipe.edit.target, (*trials.halves, trials.keep)
    prompts = tuple(dict.fromkeys(one.prompt for plan in plans for one in plan.questions))
    strength = Strength(
        target=target, seeds=STRENGTH_SEEDS, steps=trials.keep.steps, prompts=prompts
    )
    if not trials.is_measurable:
        return strength
    method = EDIT_METHODS[recipe.edit.method]
    ladder, start = method.ladder, method.ladder.index(method.auto_ridge)
    tried, chosen = climb(ladder, start, layers_of, trials.attempt, widen, target)
    return strength.model_copy(update={"tried": tried, "chosen": chosen})


@dataclass(frozen=True)
class _StrengthTrials:
    """
    The trial questions: prompts to forget in two halves, and prompts to keep.

    Each prompt is drawn with one seed, since an edit that fails a prompt fails it with other seeds
    too. `best_case` holds the verdicts of a perfect edit for each half, so that a hopeless trial
    can stop early.
    """

    context: EvaluationContext
    recipe: Recipe
    encoder: CheckpointEncoder
    halves: tuple[EvaluationPlan, ...]
    keep: EvaluationPlan
    best_case: tuple[Verdicts, ...]

    @classmethod
    def of(cls, context: EvaluationContext, recipe: Recipe) -> "_StrengthTrials":
        """Draw and judge the pictures before the edit, and return the trials of a recipe."""
        spec = context.located.spec
        sampling, prompts = trial_sampling(spec, recipe), validation_questions(spec, recipe)
        forget = tuple(question for question in prompts if question.edit is not None)
        keep = tuple(question for question in prompts if question.edit is None)
        halves = tuple(
            EvaluationPlan(forget[i :: len(STRENGTH_SEEDS)], (seed,), *sampling)
            for i, seed in enumerate(STRENGTH_SEEDS)
        )
        best_case = tuple(_best_verdicts(context.verdicts(half)) for half in halves)
        keep_plan = EvaluationPlan(keep, STRENGTH_SEEDS[:1], *sampling)
        return cls(context, recipe, encoder_of(context.located), halves, keep_plan, best_case)

    @property
    def is_measurable(self) -> bool:
        """True if the model draws every concept well enough that an edit could forget it."""
        return _figures(self.best_case).forgotten is not None

    def attempt(
        self, layers_of: tuple[LayerSet, ...], ridge: str, is_complete: bool = False
    ) -> StrengthTrial:
        """Make the edit of one rung; unless `is_complete`, stop once the target is out of reach."""
        context, target = self.context, self.recipe.edit.target
        recipe = with_ridge(self.recipe, ridge)
        solved = solve(context.located, recipe, layers_of, self.encoder)
        verdicts: list[Verdicts] = []
        with edited_pipeline(context.pipeline, context.located, solved) as edited:
            for i, half in enumerate(self.halves):
                verdicts.append(context.verdicts(half, edited))
                upper_bound = _trial(layers_of, ridge, (*verdicts, *self.best_case[i + 1 :]))
                if not (is_complete or upper_bound.forgets(target)):
                    return self._with_shortfalls(_trial(layers_of, ridge, verdicts), verdicts)
            verdicts.append(context.verdicts(self.keep, edited))
        return self._with_shortfalls(_trial(layers_of, ridge, verdicts), verdicts)

    def _with_shortfalls(self, trial: StrengthTrial, verdicts: Iterable[Verdicts]) -> StrengthTrial:
        """Add the indices of the edits that fell short of the target to a trial."""
        short = []
        for edit in range(len(self.recipe.edits)):
            of_edit = [{q: one[q] for q in one if q.edit == edit} for one in verdicts]
            if not _trial(trial.layers, trial.ridge, of_edit).forgets(self.recipe.edit.target):
                short.append(edit)
        return trial.model_copy(update={"short": tuple(short)})


def _best_verdicts(own: Verdicts) -> Verdicts:
    return {
        question: [JudgedImage(0.0, 0.0, one.recognised_before, False, True) for one in images]
        for question, images in own.items()
    }


def _trial(
    layers_of: tuple[LayerSet, ...], ridge: str, verdicts: Iterable[Verdicts]
) -> StrengthTrial:
    found = _figures(verdicts)
    n = sum(len(images) for one in verdicts for images in one.values())
    return StrengthTrial(layers=layers_of, ridge=ridge, **found.figures, n=n)


def _figures(verdicts: Iterable[Verdicts]) -> Evaluation:
    images: defaultdict[Question, list[JudgedImage]] = defaultdict(list)
    for one in verdicts:
        for question, some in one.items():
            images[question] += some
    return evaluation_of(images, STRENGTH_SEEDS)
