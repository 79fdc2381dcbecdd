"""
The strength of an edit, measured on pictures: the first rung that reaches the recipe's target.

Prompts and seeds are none that find layers, solve or evaluate. The scorer looks at the pictures, as
it does where layers are looked for, so that the judge of an evaluation has chosen nothing.
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
from loco_cli.evaluating.questions import Question, validation
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
    Return the strength of a recipe's edit, which is made in memory on every rung and taken back.

    `widen` says which layers come after those given, the same where none do.
    """
    trials = _Trials.of(context, recipe)
    target, plans = recipe.edit.target, (*trials.halves, trials.keep)
    prompts = tuple(dict.fromkeys(one.prompt for plan in plans for one in plan.questions))
    strength = Strength(
        target=target, seeds=STRENGTH_SEEDS, steps=trials.keep.steps, prompts=prompts
    )
    if not trials.are_known:
        return strength
    method = EDIT_METHODS[recipe.edit.method]
    ladder, begin = method.ladder, method.ladder.index(method.auto_ridge)
    tried, chosen = climb(ladder, begin, layers_of, trials.attempt, widen, target)
    return strength.model_copy(update={"tried": tried, "chosen": chosen})


@dataclass(frozen=True)
class _Trials:
    """
    The questions for edits of different strength: those to forget in two halves, and those to keep.

    Every prompt is drawn once: an edit that fails a prompt fails it with other seeds too.

    `hoped` are, half by half, the verdicts of the best edit that there could be.
    """

    context: EvaluationContext
    recipe: Recipe
    encoder: CheckpointEncoder
    halves: tuple[EvaluationPlan, ...]
    keep: EvaluationPlan
    hoped: tuple[Verdicts, ...]

    @classmethod
    def of(cls, context: EvaluationContext, recipe: Recipe) -> "_Trials":
        """Return the trials of a recipe; the model's own pictures are drawn and looked at."""
        spec = context.located.spec
        sampling, asked = trial_sampling(spec, recipe), validation(spec, recipe)
        forget = tuple(question for question in asked if question.edit is not None)
        keep = tuple(question for question in asked if question.edit is None)
        halves = tuple(
            EvaluationPlan(forget[i :: len(STRENGTH_SEEDS)], (seed,), *sampling)
            for i, seed in enumerate(STRENGTH_SEEDS)
        )
        hoped = tuple(_at_best(context.look(half)) for half in halves)
        keep_plan = EvaluationPlan(keep, STRENGTH_SEEDS[:1], *sampling)
        return cls(context, recipe, encoder_of(context.located), halves, keep_plan, hoped)

    @property
    def are_known(self) -> bool:
        """Whether the model draws something of every concept that could be forgotten."""
        return _figures(self.hoped).forgotten is not None

    def attempt(
        self, layers_of: tuple[LayerSet, ...], ridge: str, is_finished: bool = False
    ) -> StrengthTrial:
        """Return what an edit does; it is given up where it cannot reach the target any more."""
        context, target = self.context, self.recipe.edit.target
        recipe = with_ridge(self.recipe, ridge)
        solved = solve(context.located, recipe, layers_of, self.encoder)
        seen: list[Verdicts] = []
        with edited_pipeline(context.pipeline, context.located, solved) as edited:
            for i, half in enumerate(self.halves):
                seen.append(context.look(half, edited))
                at_best = _trial(layers_of, ridge, (*seen, *self.hoped[i + 1 :]))
                if not (is_finished or at_best.forgets(target)):
                    return self._with_short(_trial(layers_of, ridge, seen), seen)
            seen.append(context.look(self.keep, edited))
        return self._with_short(_trial(layers_of, ridge, seen), seen)

    def _with_short(self, trial: StrengthTrial, seen: Iterable[Verdicts]) -> StrengthTrial:
        """Return a trial with the edits that fell short of the target."""
        short = []
        for edit in range(len(self.recipe.edits)):
            of_edit = [{q: one[q] for q in one if q.edit == edit} for one in seen]
            if not _trial(trial.layers, trial.ridge, of_edit).forgets(self.recipe.edit.target):
                short.append(edit)
        return trial.model_copy(update={"short": tuple(short)})


def _at_best(own: Verdicts) -> Verdicts:
    return {
        question: [JudgedImage(0.0, 0.0, one.recognised_before, False, True) for one in images]
        for question, images in own.items()
    }


def _trial(layers_of: tuple[LayerSet, ...], ridge: str, seen: Iterable[Verdicts]) -> StrengthTrial:
    found = _figures(seen)
    n = sum(len(images) for one in seen for images in one.values())
    return StrengthTrial(layers=layers_of, ridge=ridge, **found.figures, n=n)


def _figures(seen: Iterable[Verdicts]) -> Evaluation:
    images: defaultdict[Question, list[JudgedImage]] = defaultdict(list)
    for one in seen:
        for question, some in one.items():
            images[question] += some
    return evaluation_of(images, STRENGTH_SEEDS)
