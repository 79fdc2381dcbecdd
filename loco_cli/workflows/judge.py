"""Generate before and after an edit, score and recognise, and count."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from loco_cli.errors import MachineError
from loco_cli.evaluation import Evaluation, ForgetImages, JudgedImage, KeepImages
from loco_cli.interventions import Run
from loco_cli.metrics.clip_score import ClipScorer
from loco_cli.recipe import EvaluateSettings, Recipe
from loco_cli.report.pictures import BeforeAfter
from loco_cli.runtime.pipeline import Pipeline
from loco_cli.runtime.sample import choose_batch_size, count_steps, sample, to_png
from loco_cli.runtime.weights import replaced_weights
from loco_cli.workflows.locate import Located
from loco_cli.workflows.machine import Machine, load_judge, load_model, load_scorer, ticking
from loco_cli.workflows.progress import Notify, silent
from loco_cli.workflows.questions import Question, questions
from loco_cli.workflows.solve import NewWeight, Solved, new_weights

FIRST_SEED = 1000  # choosing uses seeds from 0


@dataclass(frozen=True)
class Judged:
    """An evaluation, and the pictures of it."""

    evaluation: Evaluation
    pictures: tuple[BeforeAfter, ...]


def evaluate(
    located: Located,
    recipe: Recipe,
    edited: Located | Solved,
    machine: Machine,
    notify: Notify = silent,
) -> Judged:
    """Return the evaluation of an edited checkpoint, or of a solved edit made in memory."""
    asked = questions(located.spec, recipe)
    seeds = tuple(range(FIRST_SEED, FIRST_SEED + recipe.evaluate.seeds))
    scorer = load_scorer(located, machine)
    judge = load_judge(located, machine, scorer)
    before, after = _both(located, recipe, edited, asked, seeds, machine, notify)
    images: dict[Question, list[JudgedImage]] = {question: [] for question in asked}
    pictures = []
    keys = [(question, seed) for question in asked for seed in seeds]
    for (question, seed), old, new in zip(keys, before, after, strict=True):
        judged = _judge(question, old, new, scorer, judge)
        images[question].append(judged)
        pictures.append(_picture(question, seed, judged, old, new))
    return Judged(_document(images, seeds), tuple(pictures))


@contextmanager
def edited_pipeline(pipeline: Pipeline, located: Located, solved: Solved) -> Iterator[None]:
    """While open, the pipeline has the edit's weights, rounded as the file would have them."""
    chosen: dict[str, NewWeight] = {}
    for weight in new_weights(located, solved):
        # of `x.safetensors` and `x.fp16.safetensors` the pipeline has read the first
        here = chosen.get(weight.slot.name, weight)
        is_plainer = weight.slot.file.count(".") <= here.slot.file.count(".")
        if weight.slot.component == "unet" and is_plainer:  # and no EMA copy
            chosen[weight.slot.name] = weight
    stored = {name: weight.stored for name, weight in chosen.items()}
    with replaced_weights(pipeline.pipe.unet, stored):
        yield


def _both(
    located: Located,
    recipe: Recipe,
    edited: Located | Solved,
    asked: Sequence[Question],
    seeds: Sequence[int],
    machine: Machine,
    notify: Notify,
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the pictures before and after, one model in memory at a time."""
    runs = [Run(question.prompt, seed) for question in asked for seed in seeds]

    def pictures(pipeline: Pipeline, when: str) -> list[Tensor]:
        return _pictures(pipeline, runs, recipe.evaluate, machine, f"pictures {when}", notify)

    pipeline = load_model(located, machine, notify)
    before = pictures(pipeline, "before")
    if isinstance(edited, Solved):
        with edited_pipeline(pipeline, located, edited):
            return before, pictures(pipeline, "after")
    del pipeline
    return before, pictures(load_model(edited, machine, notify), "after")


def _pictures(
    pipeline: Pipeline,
    runs: Sequence[Run],
    settings: EvaluateSettings,
    machine: Machine,
    stage: str,
    notify: Notify,
) -> list[Tensor]:
    steps, guidance = pipeline.spec.sampling(settings.steps, settings.guidance)
    images = sample(
        pipeline,
        runs,
        steps=steps,
        guidance=guidance,
        batch_size=choose_batch_size(machine.batch_size, pipeline),
        tick=ticking(notify, stage, len(runs) * count_steps(pipeline, steps)),
    )
    return list(images)


def _judge(
    question: Question, old: Tensor, new: Tensor, scorer: ClipScorer, judge: ClipScorer
) -> JudgedImage:
    both = torch.stack([old, new])  # [2, 3, h, w]
    if not both.isfinite().all():
        raise MachineError(
            f"a picture of `{question.prompt}` came out as no numbers", "try `--dtype float32`"
        )
    before, after = scorer.scores(both, [question.prompt] * 2)
    if question.labels is None:
        return JudgedImage(before, after)
    first, second = judge.best_label(both, question.labels.texts)
    target = question.labels.target
    became = None if target is None else second == target
    return JudgedImage(before, after, first == 0, second == 0, became)


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


def _document(images: Mapping[Question, Sequence[JudgedImage]], seeds: Sequence[int]) -> Evaluation:
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
