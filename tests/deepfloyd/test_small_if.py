"""
What the small IF knows, and which edits take it out.

These tests need its trained weights.
"""

import json
from dataclasses import replace

import pytest

from loco_cli.editing.methods import solve
from loco_cli.evaluating.judge import edited_pipeline
from loco_cli.models.encoders import encoder_of
from tests.benchmarks.deepfloyd import FORMS, recipe_in
from tests.benchmarks.world import entries
from tests.deepfloyd.leak import PLACES, leak
from tests.deepfloyd.small_if import FOLDER, draw, load_bench, locate_small_if

SEEDS = (2000, 2001, 2002, 2003)  # neither those that choose nor those that evaluate
ASKED = "a beautiful painting of a car in the style of van gogh"
PLAIN = "a beautiful painting of a car"


@pytest.fixture(scope="module")
def bench():
    return load_bench(locate_small_if())


def called(bench, prompt, labels):
    """Return which of the labels each picture of a prompt is called by."""
    return [
        bench.scorers.judge.best_label(image[None], labels)[0]
        for image in draw(bench, [prompt], SEEDS)
    ]


def edited(bench, form):
    """Return the bench of an edit of Van Gogh in all layers."""
    located = bench.located
    (entry,) = entries(subjects=["van gogh"])
    recipe = recipe_in(FORMS[form], entry, str(located.path), 4)
    layers = tuple(range(located.spec.n_layers))
    return edited_pipeline(
        bench.pipeline, located, solve(located, recipe, (layers,), encoder_of(located))
    )


def test_it_is_known_by_its_files():
    """
    A path is enough: the family, its layers and its text encoder are read off the weights.
    """
    spec = locate_small_if().spec

    assert (spec.family.name, spec.n_layers, spec.context.encoders[0].kind) == ("if", 22, "t5")
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 9e6


def test_every_token_tells_the_subject():
    """
    T5 looks both ways: a linear map of any one token tells which thing a prompt is about.
    """
    encoder = encoder_of(locate_small_if())

    assert min(leak(encoder, place) for place in PLACES.values()) > 0.9


def test_it_draws_what_it_is_asked_for(bench):
    """
    Nearly all pictures that were made of it are recognised, and so is what is drawn here.
    """
    shares = json.loads((FOLDER.parent / "training.json").read_text())["generated"]["judge"]

    assert min(shares[kind] for kind in ("objects", "styles", "facts")) > 0.9
    assert called(bench, ASKED, [ASKED, PLAIN]) == [0] * 4
    assert called(bench, "a nice picture of a cat", ["a cat", "a dog", "a house"]) == [0] * 4


def test_the_papers_form_fails_where_all_tokens_and_the_pooling_do_not(bench):
    """
    The last subject token alone leaves the style in all layers; every token and the pooling do not.
    """
    with edited(bench, "paper") as pipeline:
        paper = called(replace(bench, pipeline=pipeline), ASKED, [ASKED, PLAIN])
    with edited(bench, "pooled") as pipeline:
        ours = called(replace(bench, pipeline=pipeline), ASKED, [ASKED, PLAIN])

    assert (paper, ours) == ([0] * 4, [1] * 4)
