"""
How strong an edit has to be, by its pictures: the first rung that reaches the recipe's target.

A rung is a ridge in given layers. The climb begins where a constant would be: stronger rungs are
tried where too little is forgotten, gentler ones where too little is kept, and the first that
reaches the target is taken. Where no ridge forgets enough the layers are widened, and where nothing
reaches the target the best of what was tried is taken.

It does not begin at the gentlest: what is just enough in a few prompts is not enough in others.

Prompts and seeds are none that find layers, solve or evaluate. The scorer looks at the pictures, as
where layers are looked for: the judge of an evaluation has chosen nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from loco_cli.editing.methods import named_layers, solve
from loco_cli.encoders.encode import CheckpointEncoder
from loco_cli.evaluating.judge import (
    EvaluationContext,
    EvaluationPlan,
    Verdicts,
    document_of,
    edited_pipeline,
)
from loco_cli.evaluating.questions import Question, validation
from loco_cli.evaluation import Evaluation, JudgedImage
from loco_cli.families.spec import ModelSpec
from loco_cli.layers import LayerSet
from loco_cli.manifest import Strength, StrengthTrial
from loco_cli.methods import EDIT_METHODS
from loco_cli.models.encoders import encoder_of
from loco_cli.models.locate import LocatedModel
from loco_cli.plan import PlannedRuns
from loco_cli.protocol.seeds import STRENGTH_SEEDS
from loco_cli.recipe import Recipe
from loco_cli.recipe.values import parse_ridge

N_WIDER = 2  # times that layers are widened
N_FINISHED = 3  # of the rungs that were given up, where none is enough

# the last argument: whether the trial is to be finished
Attempt = Callable[[tuple[LayerSet, ...], str, bool], StrengthTrial]
# the last argument: the edits to widen
Widen = Callable[[tuple[LayerSet, ...], Sequence[int]], tuple[LayerSet, ...]]


def measure(
    bench: EvaluationContext, recipe: Recipe, layers_of: tuple[LayerSet, ...], widen: Widen
) -> Strength:
    """
    Return the strength of a recipe's edit, which is made in memory on every rung and taken back.

    `widen` says which layers come after those given, the same where none do.
    """
    trials = Trials.of(bench, recipe)
    target, exams = recipe.edit.target, (*trials.halves, trials.keep)
    prompts = tuple(dict.fromkeys(one.prompt for exam in exams for one in exam.questions))
    strength = Strength(
        target=target, seeds=STRENGTH_SEEDS, steps=trials.keep.steps, prompts=prompts
    )
    if not trials.are_known:
        return strength
    method = EDIT_METHODS[recipe.edit.method]
    ladder, begin = method.ladder, method.ladder.index(method.auto_ridge)
    tried, chosen = climb(ladder, begin, layers_of, trials.attempt, widen, target)
    return strength.model_copy(update={"tried": tried, "chosen": chosen})


def climb(
    ladder: Sequence[str],
    begin: int,
    layers_of: tuple[LayerSet, ...],
    attempt: Attempt,
    widen: Widen,
    target: float,
) -> tuple[tuple[StrengthTrial, ...], int]:
    """
    Return every rung that was tried, in that order, and the index of the one to take.

    `ladder` goes from gentle to strong. Layers are widened, for the edits that fall short, where no
    ridge forgets enough in those there are: more layers forget more, and keep no more.
    """
    tried: list[StrengthTrial] = []
    for _ in range(1 + N_WIDER):
        begun = len(tried)
        tried.append(attempt(layers_of, ladder[begin], False))
        stronger, gentler = ladder[begin + 1 :], ladder[:begin][::-1]
        for ridge in (*gentler, *stronger) if tried[-1].forgets(target) else stronger:
            if tried[-1].reaches(target):
                break
            tried.append(attempt(layers_of, ridge, False))
        if tried[-1].reaches(target):
            return tuple(tried), len(tried) - 1
        wider = widen(layers_of, tried[-1].short)
        if any(one.forgets(target) for one in tried[begun:]) or wider == layers_of:
            break
        layers_of = wider
    return _best(tried, attempt, target)


def with_ridge(recipe: Recipe, ridge: str) -> Recipe:
    """Return the recipe with another price of moving."""
    settings = recipe.edit.model_copy(update={"ridge": parse_ridge(ridge)})
    return recipe.model_copy(update={"edit": settings})


@dataclass(frozen=True)
class Trials:
    """
    What edits of different strength are asked: what to forget in two halves, and what to keep.

    Every prompt is drawn once: an edit that fails a prompt fails it with other seeds too.

    `hoped` are, half by half, the verdicts of the best edit that there could be.
    """

    bench: EvaluationContext
    recipe: Recipe
    encoder: CheckpointEncoder
    halves: tuple[EvaluationPlan, ...]
    keep: EvaluationPlan
    hoped: tuple[Verdicts, ...]

    @classmethod
    def of(cls, bench: EvaluationContext, recipe: Recipe) -> "Trials":
        """Return the trials of a recipe; the model's own pictures are drawn and looked at."""
        spec = bench.located.spec
        sampling, asked = trial_sampling(spec, recipe), validation(spec, recipe)
        forget = tuple(question for question in asked if question.edit is not None)
        keep = tuple(question for question in asked if question.edit is None)
        halves = tuple(
            EvaluationPlan(forget[i :: len(STRENGTH_SEEDS)], (seed,), *sampling)
            for i, seed in enumerate(STRENGTH_SEEDS)
        )
        hoped = tuple(_at_best(bench.look(half)) for half in halves)
        keep_exam = EvaluationPlan(keep, STRENGTH_SEEDS[:1], *sampling)
        return cls(bench, recipe, encoder_of(bench.located), halves, keep_exam, hoped)

    @property
    def are_known(self) -> bool:
        """Whether the model draws something of every concept that could be forgotten."""
        return _figures(self.hoped).forgotten is not None

    def attempt(
        self, layers_of: tuple[LayerSet, ...], ridge: str, is_finished: bool = False
    ) -> StrengthTrial:
        """Return what an edit does; it is given up where it cannot reach the target any more."""
        bench, target = self.bench, self.recipe.edit.target
        recipe = with_ridge(self.recipe, ridge)
        solved = solve(bench.located, recipe, layers_of, self.encoder)
        seen: list[Verdicts] = []
        with edited_pipeline(bench.pipeline, bench.located, solved) as edited:
            for i, half in enumerate(self.halves):
                seen.append(bench.look(half, edited))
                at_best = _trial(layers_of, ridge, (*seen, *self.hoped[i + 1 :]))
                if not (is_finished or at_best.forgets(target)):
                    return self._with_short(_trial(layers_of, ridge, seen), seen)
            seen.append(bench.look(self.keep, edited))
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
    return document_of(images, STRENGTH_SEEDS)


def price_of_strength(located: LocatedModel, recipe: Recipe) -> PlannedRuns | None:
    """Return what it takes, at most, to choose an edit's strength; None where it is fixed."""
    if not recipe.edit.is_measured:
        return None
    asked = validation(located.spec, recipe)
    n_forget = sum(question.edit is not None for question in asked)
    n_keep = sum(question.edit is None for question in asked)
    is_sought = named_layers(located, recipe) is None
    n_pictures = max_images(
        n_forget, n_keep, len(EDIT_METHODS[recipe.edit.method].ladder), is_widened=is_sought
    )
    return PlannedRuns.of(n_pictures, trial_sampling(located.spec, recipe))


def trial_sampling(spec: ModelSpec, recipe: Recipe) -> tuple[int, float]:
    """
    Return steps and guidance of the pictures that choose a strength: half as many steps.

    What a picture shows is recognised in them as well, and more prompts tell more than more steps.
    """
    steps, guidance = spec.sampling(recipe.localize.steps, recipe.localize.guidance)
    return (steps + 1) // 2, guidance


def max_images(n_forget: int, n_keep: int, n_rungs: int, *, is_widened: bool) -> int:
    """Return how many pictures a climb makes, those before the edit with them."""
    n_all = n_rungs * (1 + N_WIDER) if is_widened else n_rungs
    whole = n_forget + n_keep
    return whole + n_all * n_forget + n_rungs * n_keep + N_FINISHED * whole


def _best(
    tried: list[StrengthTrial], attempt: Attempt, target: float
) -> tuple[tuple[StrengthTrial, ...], int]:
    """Finish the most promising, and return the best of them, the first of equals."""
    promising = sorted(range(len(tried)), key=lambda i: -tried[i].moved)[:N_FINISHED]
    for i in promising:
        if not tried[i].forgets(target):
            tried[i] = attempt(tried[i].layers, tried[i].ridge, True)
    return tuple(tried), max(sorted(promising), key=lambda i: tried[i].overall)
