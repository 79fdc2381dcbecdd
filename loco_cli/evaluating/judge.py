"""The judge of edits: draw pictures before and after, score them and recognise them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from loco_cli.checkpoint.lora import Lora
from loco_cli.checkpoint.reader import TensorSlot
from loco_cli.editing.deltas import SolvedEdit, new_weights
from loco_cli.errors import MachineError
from loco_cli.evaluating.questions import Question, questions
from loco_cli.evaluation import BeforeAfter, Evaluation, ForgetImages, JudgedImage, KeepImages
from loco_cli.events import SILENT_EVENTS, Events
from loco_cli.families.spec import ModelSpec
from loco_cli.interventions import FixChannels, Run
from loco_cli.models.locate import LocatedModel
from loco_cli.models.session import RunOptions, load_judge, load_model, load_scorer
from loco_cli.protocol.seeds import evaluate_seeds
from loco_cli.recipe.record import Recipe
from loco_cli.sampling.clip_score import ClipScorer
from loco_cli.sampling.conditioning import PromptEncoder
from loco_cli.sampling.pipeline import Pipeline
from loco_cli.sampling.sample import choose_batch_size, count_unet_calls, sample, to_png
from loco_cli.sampling.weights import apply_lora, replace_weights


@dataclass(frozen=True)
class EvaluationRun:
    """An evaluation with its pictures."""

    evaluation: Evaluation
    pictures: tuple[BeforeAfter, ...]


Verdicts = Mapping[Question, Sequence[JudgedImage]]  # one verdict per seed


@dataclass(frozen=True)
class EvaluationPlan:
    """The questions of an evaluation, the seeds that draw each of them, and the sampling."""

    questions: tuple[Question, ...]
    seeds: tuple[int, ...]
    steps: int
    guidance: float

    @classmethod
    def of(cls, spec: ModelSpec, recipe: Recipe) -> "EvaluationPlan":
        """
        Return the evaluation plan of a recipe.

        Its prompts and seeds are disjoint from those that localize, solve, or choose a strength.
        """
        settings = recipe.evaluate
        sampling = spec.sampling(settings.steps, settings.guidance)
        return cls(questions(spec, recipe), evaluate_seeds(settings.seeds), *sampling)

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs to draw, grouped by question."""
        return tuple(
            Run(question.prompt, seed) for question in self.questions for seed in self.seeds
        )


@dataclass(frozen=True)
class Scorers:
    """The CLIP models: the scorer, which may have chosen layers, and the independent judge."""

    scorer: ClipScorer
    judge: ClipScorer

    def judge_pair(self, question: Question, old: Tensor, new: Tensor) -> JudgedImage:
        """Return the verdict on a picture [3, h, w] before and after."""
        both = torch.stack([old, new])  # [2, 3, h, w]
        if not both.isfinite().all():
            raise MachineError(
                f"a picture of `{question.prompt}` contains NaN or infinity",
                "try `--dtype float32`",
            )
        before, after = self.scorer.scores(both, [question.prompt] * 2)
        if question.labels is None:
            return JudgedImage(before, after)
        first, second = self.judge.best_label(both, question.labels.texts)
        if not question.labels.texts[first]:
            # the empty prompt beats the true label even here, so it cannot discriminate
            named = [text for text in question.labels.texts if text]
            first, second = self.judge.best_label(both, named)
        became = question.labels.is_target(second)
        return JudgedImage(before, after, first == 0, second == 0, became)


@dataclass(frozen=True)
class EvaluationContext:
    """
    A loaded model and its scorers, for judging any number of edits.

    The pictures before an edit are drawn once and shared by all edits.
    """

    located: LocatedModel
    pipeline: Pipeline
    scorers: Scorers
    batch_size: int
    events: Events = SILENT_EVENTS
    stage: str = "pictures"  # name of the stage in progress reports
    drawn: dict[tuple[Run, int, float], Tensor] = field(
        default_factory=dict
    )  # run, steps, guidance

    @classmethod
    def load(
        cls, located: LocatedModel, options: RunOptions, events: Events = SILENT_EVENTS
    ) -> "EvaluationContext":
        """Load a model with its scorer and its judge."""
        scorer = load_scorer(located, options)
        scorers = Scorers(scorer, load_judge(located, options, scorer))
        pipeline = load_model(located, options, events)
        batch_size = choose_batch_size(options.batch_size, pipeline)
        return cls(located, pipeline, scorers, batch_size, events)

    def before(self, plan: EvaluationPlan) -> list[Tensor]:  # each [3, h, w]
        """Return the pictures before an edit, in the order of the plan's runs."""
        keys = [(run, plan.steps, plan.guidance) for run in plan.runs]
        missing = [key for key in keys if key not in self.drawn]
        if missing:
            runs = [run for run, _, _ in missing]
            self.drawn.update(zip(missing, self._draw(plan, runs, "before"), strict=True))
        return [self.drawn[key] for key in keys]

    def judge_fixed_channels(
        self, plan: EvaluationPlan, fixed: tuple[FixChannels, ...]
    ) -> EvaluationRun:
        """Evaluate an edit that fixes channels while pictures are drawn."""
        before = self.before(plan)
        runs = [replace(run, fixed=fixed) for run in plan.runs]
        return _judge_pictures(plan, before, self._draw(plan, runs, "after"), self.scorers)

    def judge(self, plan: EvaluationPlan, solved: SolvedEdit) -> EvaluationRun:
        """Evaluate a solved edit; the model in memory is edited and then restored."""
        before = self.before(plan)
        with edited_pipeline(self.pipeline, self.located, solved) as edited:
            after = replace(self, pipeline=edited)._draw(plan, plan.runs, "after")
        return _judge_pictures(plan, before, after, self.scorers)

    def verdicts(self, plan: EvaluationPlan, edited: Pipeline | None = None) -> Verdicts:
        """Return the verdicts on an edited pipeline, or on the model itself without one."""
        before = after = self.before(plan)
        if edited is not None:
            after = replace(self, pipeline=edited)._draw(plan, plan.runs, "after")
        return _verdicts_of(plan, before, after, self.scorers)

    def _draw(self, plan: EvaluationPlan, runs: Sequence[Run], when: str) -> list[Tensor]:
        return _pictures(
            self.pipeline, plan, runs, self.batch_size, f"{self.stage} {when}", self.events
        )


def evaluate(
    located: LocatedModel,
    recipe: Recipe,
    edited: LocatedModel | Lora | SolvedEdit | tuple[FixChannels, ...],
    options: RunOptions,
    events: Events = SILENT_EVENTS,
) -> EvaluationRun:
    """
    Evaluate an edit on pictures of the recipe's questions.

    Args:
        located: The model before the edit.
        recipe: The recipe, which determines questions, seeds and sampling.
        edited: The edit: a checkpoint, a LoRA, a solved edit, or channels to fix.
        options: The device, the precision, the scorer and the judge.
        events: The receiver of progress.

    Returns:
        The evaluation with one picture pair per question and seed.

    Raises:
        MachineError: A picture contains NaN.
    """
    plan = EvaluationPlan.of(located.spec, recipe)
    context = EvaluationContext.load(located, options, events)
    if isinstance(edited, SolvedEdit):
        return context.judge(plan, edited)
    if isinstance(edited, tuple):
        return context.judge_fixed_channels(plan, edited)
    before, scorers, batch_size = context.before(plan), context.scorers, context.batch_size
    if isinstance(edited, Lora):
        with apply_lora(context.pipeline, edited.parts) as pipeline:
            after = _pictures(pipeline, plan, plan.runs, batch_size, "pictures after", events)
        return _judge_pictures(plan, before, after, scorers)
    del context  # keep one model in memory at a time
    pipeline = load_model(edited, options, events)
    after = _pictures(pipeline, plan, plan.runs, batch_size, "pictures after", events)
    return _judge_pictures(plan, before, after, scorers)


@contextmanager
def edited_pipeline(
    pipeline: Pipeline, located: LocatedModel, solved: SolvedEdit
) -> Iterator[Pipeline]:
    """
    Put the weights of an edit into a pipeline, and restore the old weights afterwards.

    Args:
        pipeline: The loaded model.
        located: The same model on disk.
        solved: The edit. Its weights are rounded to the dtype of the file.

    Yields:
        The edited pipeline. Its prompt encoder is new if the edit changes a text encoder.
    """
    chosen: dict[tuple[str, str], tuple[TensorSlot, Tensor]] = {}
    for slot, stored, _ in new_weights(located, solved):
        # given `x.safetensors` and `x.fp16.safetensors`, the pipeline reads the first
        key = (slot.component, slot.name)
        current, _ = chosen.get(key, (slot, stored))
        if slot.file.count(".") <= current.file.count("."):
            chosen[key] = slot, stored
    components = sorted({change.component for change in solved.changes})
    with ExitStack() as stack:
        for component in components:  # EMA copies are not loaded, so they are left out
            weights = {name: new for (of, name), (_, new) in chosen.items() if of == component}
            module = getattr(pipeline.pipe, component)
            stack.enter_context(replace_weights(module, weights))
        if components == [pipeline.spec.network]:
            yield pipeline
        else:  # an edit of a text encoder invalidates the prompts encoded so far
            yield replace(pipeline, prompt_encoder=PromptEncoder(pipeline.pipe, pipeline.spec))


def _pictures(
    pipeline: Pipeline,
    plan: EvaluationPlan,
    runs: Sequence[Run],
    batch_size: int,
    stage: str,
    events: Events,
) -> list[Tensor]:
    total = len(runs) * count_unet_calls(pipeline, plan.steps)
    images = sample(
        pipeline,
        runs,
        steps=plan.steps,
        guidance=plan.guidance,
        batch_size=batch_size,
        tick=events.ticker(stage, total),
    )
    return list(images)


def _judge_pictures(
    plan: EvaluationPlan, before: Sequence[Tensor], after: Sequence[Tensor], scorers: Scorers
) -> EvaluationRun:
    """Judge pictures [3, h, w] before and after; both are in the order of the plan's runs."""
    verdicts = _verdicts_of(plan, before, after, scorers)
    keys = [
        (question, seed, verdict)
        for question, images in verdicts.items()
        for seed, verdict in zip(plan.seeds, images, strict=True)
    ]
    pictures = tuple(
        _picture(*key, old, new) for key, old, new in zip(keys, before, after, strict=True)
    )
    return EvaluationRun(evaluation_of(verdicts, plan.seeds), pictures)


def _verdicts_of(
    plan: EvaluationPlan, before: Sequence[Tensor], after: Sequence[Tensor], scorers: Scorers
) -> Verdicts:
    """Return the verdict on each picture pair [3, h, w]; both lists follow the plan's runs."""
    pairs = iter(zip(before, after, strict=True))
    return {
        question: [scorers.judge_pair(question, *next(pairs)) for _ in plan.seeds]
        for question in plan.questions
    }


def _picture(
    question: Question, seed: int, judged: JudgedImage, old: Tensor, new: Tensor
) -> BeforeAfter:
    return BeforeAfter(
        group="keep" if question.edit is None else "forget",
        prompt=question.prompt,
        seed=seed,
        before=to_png(old),
        after=to_png(new),
        score_before=judged.before,
        score_after=judged.after,
        recognised_before=judged.recognised_before,
        recognised_after=judged.recognised_after,
        became=judged.became,
        is_fact=question.kind == "fact",  # a fact is forgotten only if the new answer appears
    )


def evaluation_of(images: Verdicts, seeds: Sequence[int]) -> Evaluation:
    """Return the evaluation that summarizes the verdicts of all questions."""
    forget = [
        ForgetImages(question.edit, question.kind or "object", question.prompt, tuple(judged))
        for question, judged in images.items()
        if question.edit is not None
    ]
    keep = [
        KeepImages(question.concept, question.prompt, tuple(judged))
        for question, judged in images.items()
        if question.edit is None
    ]
    return Evaluation.of(forget, keep, seeds)
