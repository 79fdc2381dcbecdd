"""Pictures before and after an edit: drawn, scored, recognised and counted."""

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
from loco_cli.events import SILENT, Events
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
class Judged:
    """An evaluation, and the pictures of it."""

    evaluation: Evaluation
    pictures: tuple[BeforeAfter, ...]


Verdicts = Mapping[Question, Sequence[JudgedImage]]  # a picture for each seed


@dataclass(frozen=True)
class EvaluationPlan:
    """The questions that an edit is asked, and how they are drawn: each once with every seed."""

    questions: tuple[Question, ...]
    seeds: tuple[int, ...]
    steps: int
    guidance: float

    @classmethod
    def of(cls, spec: ModelSpec, recipe: Recipe) -> "EvaluationPlan":
        """Return the plan of a recipe's evaluation, in prompts and seeds that chose nothing."""
        settings = recipe.evaluate
        sampling = spec.sampling(settings.steps, settings.guidance)
        return cls(questions(spec, recipe), evaluate_seeds(settings.seeds), *sampling)

    @property
    def runs(self) -> tuple[Run, ...]:
        """The pictures to make, those of a question side by side."""
        return tuple(
            Run(question.prompt, seed) for question in self.questions for seed in self.seeds
        )


@dataclass(frozen=True)
class Scorers:
    """The models that look at the pictures: the scorer, and a judge that chose nothing."""

    scorer: ClipScorer
    judge: ClipScorer

    def look(self, question: Question, old: Tensor, new: Tensor) -> JudgedImage:
        """Return the verdict on a picture [3, h, w] before and after."""
        both = torch.stack([old, new])  # [2, 3, h, w]
        if not both.isfinite().all():
            raise MachineError(
                f"a picture of `{question.prompt}` came out as no numbers", "try `--dtype float32`"
            )
        before, after = self.scorer.scores(both, [question.prompt] * 2)
        if question.labels is None:
            return JudgedImage(before, after)
        first, second = self.judge.best_label(both, question.labels.texts)
        if not question.labels.texts[first]:
            # the empty prompt fits even this picture better than its own: it tells nothing here
            named = [text for text in question.labels.texts if text]
            first, second = self.judge.best_label(both, named)
        became = question.labels.is_target(second)
        return JudgedImage(before, after, first == 0, second == 0, became)


@dataclass(frozen=True)
class EvaluationContext:
    """
    The machinery that judges edits of one model: the loaded model, and those that score pictures.

    The model's own pictures are drawn once, however many edits are held against them.
    """

    located: LocatedModel
    pipeline: Pipeline
    scorers: Scorers
    batch_size: int
    events: Events = SILENT
    stage: str = "pictures"  # what progress calls them
    drawn: dict[tuple[Run, int, float], Tensor] = field(default_factory=dict)  # by steps, guidance

    @classmethod
    def load(
        cls, located: LocatedModel, options: RunOptions, events: Events = SILENT
    ) -> "EvaluationContext":
        """Return the context of a model, everything loaded."""
        scorer = load_scorer(located, options)
        scorers = Scorers(scorer, load_judge(located, options, scorer))
        pipeline = load_model(located, options, events)
        batch_size = choose_batch_size(options.batch_size, pipeline)
        return cls(located, pipeline, scorers, batch_size, events)

    def before(self, plan: EvaluationPlan) -> list[Tensor]:  # each [3, h, w]
        """Return the model's own pictures, in the order of the plan's runs."""
        keys = [(run, plan.steps, plan.guidance) for run in plan.runs]
        missing = [key for key in keys if key not in self.drawn]
        if missing:
            runs = [run for run, _, _ in missing]
            self.drawn.update(zip(missing, self._draw(plan, runs, "before"), strict=True))
        return [self.drawn[key] for key in keys]

    def judge_held(self, plan: EvaluationPlan, fixed: tuple[FixChannels, ...]) -> Judged:
        """Return the evaluation of channels that are held while pictures are made."""
        before = self.before(plan)
        runs = [replace(run, fixed=fixed) for run in plan.runs]
        return _judge_pictures(plan, before, self._draw(plan, runs, "after"), self.scorers)

    def judge(self, plan: EvaluationPlan, solved: SolvedEdit) -> Judged:
        """Return the evaluation of a solved edit, which is made in memory and taken back."""
        before = self.before(plan)
        with edited_pipeline(self.pipeline, self.located, solved) as edited:
            after = replace(self, pipeline=edited)._draw(plan, plan.runs, "after")
        return _judge_pictures(plan, before, after, self.scorers)

    def look(self, plan: EvaluationPlan, edited: Pipeline | None = None) -> Verdicts:
        """Return the verdicts on an edited pipeline's pictures, or on the model's own."""
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
    events: Events = SILENT,
) -> Judged:
    """
    Return the evaluation of an edited checkpoint, a LoRA, an edit made in memory, or held channels.
    """
    plan = EvaluationPlan.of(located.spec, recipe)
    context = EvaluationContext.load(located, options, events)
    if isinstance(edited, SolvedEdit):
        return context.judge(plan, edited)
    if isinstance(edited, tuple):
        return context.judge_held(plan, edited)
    before, scorers, batch_size = context.before(plan), context.scorers, context.batch_size
    if isinstance(edited, Lora):
        with apply_lora(context.pipeline, edited.parts) as pipeline:
            after = _pictures(pipeline, plan, plan.runs, batch_size, "pictures after", events)
        return _judge_pictures(plan, before, after, scorers)
    del context  # one model in memory at a time
    pipeline = load_model(edited, options, events)
    after = _pictures(pipeline, plan, plan.runs, batch_size, "pictures after", events)
    return _judge_pictures(plan, before, after, scorers)


@contextmanager
def edited_pipeline(
    pipeline: Pipeline, located: LocatedModel, solved: SolvedEdit
) -> Iterator[Pipeline]:
    """
    Give the pipeline with the edit's weights, rounded as the file would have them.

    After it, the weights are what they were.
    """
    chosen: dict[tuple[str, str], tuple[TensorSlot, Tensor]] = {}
    for slot, stored, _ in new_weights(located, solved):
        # of `x.safetensors` and `x.fp16.safetensors` the pipeline has read the first
        key = (slot.component, slot.name)
        here, _ = chosen.get(key, (slot, stored))
        if slot.file.count(".") <= here.file.count("."):
            chosen[key] = slot, stored
    components = sorted({change.component for change in solved.changes})
    with ExitStack() as stack:
        for component in components:  # and no EMA copy
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
) -> Judged:
    """Return the evaluation of pictures [3, h, w] before and after, in the order of the runs."""
    verdicts = _verdicts_of(plan, before, after, scorers)
    keys = [
        (question, seed, verdict)
        for question, images in verdicts.items()
        for seed, verdict in zip(plan.seeds, images, strict=True)
    ]
    pictures = tuple(
        _picture(*key, old, new) for key, old, new in zip(keys, before, after, strict=True)
    )
    return Judged(evaluation_of(verdicts, plan.seeds), pictures)


def _verdicts_of(
    plan: EvaluationPlan, before: Sequence[Tensor], after: Sequence[Tensor], scorers: Scorers
) -> Verdicts:
    """Return the verdicts on pictures [3, h, w] before and after, in the order of the runs."""
    pairs = iter(zip(before, after, strict=True))
    return {
        question: [scorers.look(question, *next(pairs)) for _ in plan.seeds]
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
        is_fact=question.kind == "fact",  # forgotten only where the new answer is given
    )


def evaluation_of(images: Verdicts, seeds: Sequence[int]) -> Evaluation:
    """Return the evaluation of verdicts."""
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
