"""
The knowledge of the small IF, and the edits that remove it.

These tests read its trained weights.
"""

import json
from dataclasses import replace

import pytest

from loco_cli.editing.methods import solve
from loco_cli.evaluating.judge import edited_pipeline
from loco_cli.models.encoders import encoder_of
from tests.benchmarks.deepfloyd import FORMS, recipe_in
from tests.benchmarks.world import entries
from tests.deepfloyd.leak import POSITIONS, leak
from tests.deepfloyd.small_if import FOLDER, draw, load_bench, locate_small_if

SEEDS = (2000, 2001, 2002, 2003)  # localization, edits and evaluation use other seeds
STYLED = "a beautiful painting of a car in the style of van gogh"
PLAIN = "a beautiful painting of a car"


@pytest.fixture(scope="module")
def bench():
    return load_bench(locate_small_if())


def labels_of(bench, prompt, labels):
    """Return the index of the label that the judge gives each picture of a prompt."""
    return [
        bench.scorers.judge.best_label(image[None], labels)[0]
        for image in draw(bench, [prompt], SEEDS)
    ]


def edited(bench, form):
    """Return the pipeline while Van Gogh is edited out of all layers."""
    located = bench.located
    (entry,) = entries(subjects=["van gogh"])
    recipe = recipe_in(FORMS[form], entry, str(located.path), 4)
    layers = tuple(range(located.spec.n_layers))
    return edited_pipeline(
        bench.pipeline, located, solve(located, recipe, (layers,), encoder_of(located))
    )


def test_its_files_identify_it():
    """
    A path is enough: the weights determine the family, the layers and the text encoder.
    """
    spec = locate_small_if().spec

    assert (spec.family.name, spec.n_layers, spec.context.encoders[0].kind) == ("if", 22, "t5")
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 9e6


def test_every_token_carries_the_subject():
    """
    T5 is bidirectional, so a linear probe of any single token identifies the subject.
    """
    encoder = encoder_of(locate_small_if())

    assert min(leak(encoder, position) for position in POSITIONS.values()) > 0.9


def test_it_draws_its_prompts(bench):
    """
    The judge recognises at least 90 % of the released pictures, and all those drawn here.
    """
    shares = json.loads((FOLDER.parent / "training.json").read_text())["generated"]["judge"]

    assert min(shares[kind] for kind in ("objects", "styles", "facts")) > 0.9
    assert labels_of(bench, STYLED, [STYLED, PLAIN]) == [0] * 4
    assert labels_of(bench, "a nice picture of a cat", ["a cat", "a dog", "a house"]) == [0] * 4


def test_the_papers_form_fails_where_all_tokens_and_the_pooling_do_not(bench):
    """
    Editing the last subject token keeps the style; editing all tokens and the pooling removes it.
    """
    with edited(bench, "paper") as pipeline:
        paper = labels_of(replace(bench, pipeline=pipeline), STYLED, [STYLED, PLAIN])
    with edited(bench, "pooled") as pipeline:
        ours = labels_of(replace(bench, pipeline=pipeline), STYLED, [STYLED, PLAIN])

    assert (paper, ours) == ([0] * 4, [1] * 4)
