"""
Concepts of `tiny`: `loco` localizes and edits them.

These tests need the trained weights; all other tests hold for any weights of that shape.
"""

import json
from dataclasses import dataclass, replace

import pytest

from loco_cli.editing.deltas import Update
from loco_cli.editing.methods import solve
from loco_cli.evaluating.judge import (
    EvaluationContext,
    EvaluationPlan,
    Scorers,
    _judge_pictures,
    edited_pipeline,
)
from loco_cli.evaluating.questions import questions
from loco_cli.families import registry
from loco_cli.interventions import Run
from loco_cli.localization import Localization
from loco_cli.localizing.runs import SearchContext
from loco_cli.models.session import RunOptions, load_judge, load_scorer
from loco_cli.recipe.load import recipe_from_text
from loco_cli.sampling.sample import choose_batch_size, sample
from tests.searches import localize

KEY = json.loads(
    (registry.shipped_folder(registry.get("tiny")).parent / "answer_key.json").read_text()
)["layer_ranges"]
SEEDS = (2000, 2001, 2002)  # seeds that neither choose nor judge an edit
STEPS = 12  # sampler steps; `tiny` draws its concepts in 12, an evaluation uses 20


@pytest.fixture(scope="module")
def scorer(tiny):
    return load_scorer(tiny, RunOptions(device="cpu"))


@pytest.fixture(scope="module")
def judge(tiny, scorer):
    return load_judge(tiny, RunOptions(device="cpu"), scorer)


def draw(pipeline, prompts, seeds=SEEDS):
    """Return the pictures of each prompt, one per seed."""
    runs = [Run(prompt, seed) for prompt in prompts for seed in seeds]
    images = list(
        sample(
            pipeline,
            runs,
            steps=STEPS,
            guidance=pipeline.spec.guidance,
            batch_size=choose_batch_size("auto", pipeline),
        )
    )
    return [images[start : start + len(seeds)] for start in range(0, len(images), len(seeds))]


def share_called(judge, images, texts, index):
    """Return the share of pictures that the judge labels with the text at `index`."""
    return sum(judge.best_label(image[None], texts)[0] == index for image in images) / len(images)


@pytest.mark.parametrize(
    ("text", "to", "source"),
    [
        ("van gogh style", "painting", "a painting in the style of {subject}"),
        ("snoopy object", "a dog", "a photo of {subject}"),
        ("the british monarch fact", "king charles", "a photo of {subject}"),
    ],
)
def test_a_concept_is_found_where_it_was_planted(tiny, pipeline, scorer, text, to, source):
    """
    The smallest window with nearly the effect of the full swap is inside the planted layers.

    It may be narrower, because some of the planted layers can suffice.
    """
    recipe = recipe_from_text(text, to=to, sources=(source,))
    settings = recipe.localize.model_copy(update={"seeds": 2, "steps": 10})
    bench = SearchContext(tiny, pipeline, scorer, choose_batch_size("auto", pipeline))

    found: Localization = localize(bench, recipe.edits[0], settings).localization

    key = range(*KEY[found.concept.kind])
    assert set(found.layer_set) <= set(key)
    assert 2 * len(found.layer_set) >= len(key)
    assert found.is_accepted(recipe.localize.effect)


@pytest.mark.parametrize(
    ("text", "to", "neighbour"),
    [
        ("van gogh style", "painting", "monet"),
        ("snoopy object", "a dog", "a cat"),
        ("the british monarch fact", "king charles", "the german chancellor"),
    ],
)
def test_an_edit_forgets_the_concept_and_keeps_its_neighbour(
    tiny, pipeline, encoder, judge, text, to, neighbour
):
    """
    On held-out prompts, the edit replaces the concept with its target and keeps a neighbour.
    """
    recipe = recipe_from_text(text, to=to)
    asked = questions(tiny.spec, recipe)
    forget = next(question for question in asked if question.edit == 0)
    keep = next(question for question in asked if question.concept == neighbour)
    layers = tuple(range(*KEY[forget.kind]))

    before = draw(pipeline, [forget.prompt, keep.prompt])
    with edited_pipeline(pipeline, tiny, solve(tiny, recipe, (layers,), encoder)):
        after = draw(pipeline, [forget.prompt, keep.prompt])

    target = forget.labels.target
    assert share_called(judge, before[0], forget.labels.texts, 0) == 1
    assert share_called(judge, after[0], forget.labels.texts, 0) == 0
    assert share_called(judge, after[0], forget.labels.texts, target) == 1
    assert share_called(judge, before[1], keep.labels.texts, 0) == 1
    assert share_called(judge, after[1], keep.labels.texts, 0) == 1


@pytest.fixture(scope="module")
def bench(tiny, pipeline, scorer, judge):
    return EvaluationContext(
        tiny, pipeline, Scorers(scorer, judge), choose_batch_size("auto", pipeline)
    )


@dataclass(frozen=True)
class Times:
    """An update multiplied by `n`."""

    update: Update
    n: int

    @property
    def directions(self):
        return self.update.directions

    @property
    def triangle(self):
        return self.update.triangle

    def change(self, weight):
        left, right = self.update.change(weight)
        return self.n * left, right


@pytest.mark.parametrize(
    ("layers", "times", "below"),
    [
        (range(*KEY["object"]), 1, set()),
        (range(*KEY["fact"]), 1, {"forgotten", "became"}),
        (range(*KEY["object"]), 0, {"forgotten", "became"}),
        (range(*KEY["object"]), 10, {"kept"}),
    ],
    ids=["right", "wrong layers", "not edited", "ten times too strong"],
)
def test_a_wrong_edit_is_caught(bench, encoder, layers, times, below):
    """
    An evaluation detects edits of wrong layers, missing edits, and edits that are too strong.
    """
    recipe = recipe_from_text("snoopy object", to="a dog")
    exam = EvaluationPlan.of(bench.located.spec, recipe)
    forget = [one for one in exam.questions if one.edit == 0]
    keep = [one for one in exam.questions if one.edit is None]
    exam = replace(exam, questions=(*forget, *keep[::4]), seeds=exam.seeds[:1], steps=STEPS)
    solved = solve(bench.located, recipe, (tuple(layers),), encoder)
    changes = tuple(replace(one, update=Times(one.update, times)) for one in solved.changes)

    if times:
        evaluation = bench.judge(exam, replace(solved, changes=changes)).evaluation
    else:
        before = bench.before(exam)
        evaluation = _judge_pictures(exam, before, before, bench.scorers).evaluation

    limits = {"forgotten": 0.95, "became": 0.95, "kept": 0.95}
    names = {sentence.split("`")[1] for sentence in evaluation.below(limits)}
    assert names == below


def test_draws_all_known_concepts(tiny, pipeline, judge):
    """
    The judge recognises most pictures of known concepts on held-out prompts.
    """
    recipe = recipe_from_text("something object", to="else")
    kept = [question for question in questions(tiny.spec, recipe) if question.edit is None]
    asked = [question for question in kept if question.labels]

    pictures = draw(pipeline, [question.prompt for question in asked], SEEDS[:1])

    right = [
        share_called(judge, images, question.labels.texts, 0)
        for question, images in zip(asked, pictures, strict=True)
    ]
    assert sum(right) / len(right) >= 0.9
