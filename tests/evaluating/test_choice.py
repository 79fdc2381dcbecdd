"""The settings that pictures determine: the strength of an edit, and wider layers."""

import json
from types import SimpleNamespace

import pytest

from loco_cli.editing.methods import solve
from loco_cli.editing.model_edit import with_ridge
from loco_cli.evaluating.choice import _widen
from loco_cli.evaluating.judge import EvaluationContext, EvaluationPlan, Scorers
from loco_cli.evaluating.questions import questions, validation_questions
from loco_cli.evaluating.strength import _StrengthTrials, measure
from loco_cli.layers import LayerSet
from loco_cli.manifest import StrengthTrial
from loco_cli.models.session import RunOptions, load_scorer
from loco_cli.protocol.seeds import STRENGTH_SEEDS
from loco_cli.recipe.load import load_recipe, recipe_from_text

ONE = """
loco: 1
edits: [{kind: style, subject: monet}]
localize: {steps: 1}
"""
TWO = """
loco: 1
edits:
  - {kind: style, subject: van gogh, aliases: [vincent]}
  - {kind: object, subject: a cat, to: a dog}
localize: {steps: 1}
"""


@pytest.fixture(scope="module")
def bench(tiny, pipeline):
    scorer = load_scorer(tiny, RunOptions(device="cpu"))
    return EvaluationContext(tiny, pipeline, Scorers(scorer, scorer), batch_size=16)


def test_layers_are_widened():
    """A range grows on both sides within the model, a set by the next ranked layers."""
    contiguous = SimpleNamespace(window=None, ranking=None)
    ranges = {
        (8, 9): (7, 8, 9, 10),
        (0, 1): (0, 1, 2),
        (10, 11): (9, 10, 11),
        tuple(range(12)): tuple(range(12)),
    }
    sets = [
        ((0, 3), (0.1, 0.2, 0.3, 0.4, 0.0), (0, 1, 2, 3)),
        ((1, 2), (0.1, 0.0, 0.3, 0.2, 0.4), (1, 2, 3, 4)),
    ]

    for layers, wider in ranges.items():
        assert _widen(LayerSet(layers), contiguous, 12) == wider
    for layers, ranking, wider in sets:
        scattered = SimpleNamespace(window="set", ranking=ranking)
        assert _widen(LayerSet(layers), scattered, 5) == wider


@pytest.mark.parametrize("text", ["van gogh style", "a cat", "the british monarch fact"])
def test_validation_is_disjoint_from_evaluation(tiny, text):
    """No validation prompt or seed belongs to the evaluation or the localization."""
    recipe = recipe_from_text(text, to="king charles" if "fact" in text else None)
    asked = validation_questions(tiny.spec, recipe)

    assert not {one.prompt for one in asked} & {one.prompt for one in questions(tiny.spec, recipe)}
    assert not set(STRENGTH_SEEDS) & {
        *EvaluationPlan.of(tiny.spec, recipe).seeds,
        *range(recipe.localize.seeds),
    }
    assert sum(one.edit is None for one in asked) == 8


def test_names_of_a_concept_take_turns(tiny):
    """An alias is used too, without an additional picture."""
    asked = [
        one.prompt
        for one in validation_questions(tiny.spec, load_recipe(TWO, "r"))
        if one.edit == 0
    ]

    assert ["vincent" in prompt for prompt in asked] == [False, True] * 4


def test_strength_is_measured_where_a_search_draws_pictures():
    """By default only an edit that searches for layers measures its strength."""
    measured = (
        "{layer_range: auto}",
        "{}",
        "{strength: measured, layers: [8, 9]}",
        "{strength: measured, method: diffquickfix}",
    )
    fixed = (
        "{layers: [8, 9]}",
        "{layer_range: published}",
        "{ridge: 0.1x}",
        "{method: neurons}",
        "{method: diffquickfix}",
        "{strength: fixed}",
    )

    for edit in (*measured, *fixed):
        recipe = load_recipe(f"{ONE}edit: {edit}", "r")
        assert recipe.edit.is_measured == (edit in measured), edit


def test_a_rung_is_the_edit_of_its_ridge(bench, tiny, encoder):
    """A trial counts the pictures of the same edit, and restores the model."""
    recipe = load_recipe(ONE, "r")
    trials = _StrengthTrials.of(bench, recipe)
    layers_of = ((8, 9),)

    trial = trials.attempt(layers_of, "0.3x", is_complete=True)

    solved = solve(tiny, with_ridge(recipe, "0.3x"), layers_of, encoder)
    judged = bench.judge(trials.keep, solved).evaluation
    assert isinstance(trial, StrengthTrial)
    assert (trial.layers, trial.ridge, trial.n) == (layers_of, "0.3x", 8 + 8)
    assert trial.kept == judged.kept
    own = bench.verdicts(trials.keep)
    assert all(one.before == one.after for images in own.values() for one in images)


def test_a_concept_that_the_model_cannot_draw_is_not_measured(bench):
    """If the scorer recognises nothing of a concept, no edit is tried."""
    text = TWO.replace("a cat", "a bicycle on the moon").replace("van gogh", "hokusai")
    recipe = load_recipe(text, "r")

    measured = measure(bench, recipe, ((8, 9), (4, 5)), lambda layers_of, short: layers_of)

    assert (measured.tried, measured.chosen, measured.chosen_trial) == ((), None, None)


def test_the_command_measures_and_reports_the_strength(here, loco):
    """Manifest, report and terminal have the chosen rung; a saved recipe repeats the edit."""
    words = ["edit", "van gogh style", "--layers", "8,9", "--set", "edit.strength=measured"]
    few = ["--set", "edit.target=0.2", "--steps", "8", "--output", "one", "--save-recipe", "r.yaml"]

    first = loco(*words, *few)
    second = loco("edit", "r.yaml", "--output", "two", "--json")

    assert (first.exit_code, second.exit_code) == (0, 0), first.stderr + second.stderr
    manifest = json.loads((here / "one" / "loco-manifest.json").read_text())
    again = json.loads(second.stdout)
    strength = manifest["strength"]
    chosen = strength["tried"][strength["chosen"]]
    assert f"strength {chosen['ridge']}" in first.stderr
    assert "<h2>Strength</h2>" in (here / "one" / "loco-report.html").read_text()
    assert chosen["layers"] == [[8, 9]]
    assert (again["strength"], again["tensors"]) == (strength, manifest["tensors"])
