"""What pictures choose for an edit: its strength, and the layers beside those that were found."""

import json

import pytest
from typer.testing import CliRunner

from loco_cli.cli.app import app
from loco_cli.editing.methods import solve
from loco_cli.editing.model_edit import with_ridge
from loco_cli.evaluating.choice import _widen
from loco_cli.evaluating.judge import EvaluationContext, EvaluationPlan, Scorers
from loco_cli.evaluating.questions import questions, validation_questions
from loco_cli.evaluating.strength import _StrengthTrials, measure
from loco_cli.layers import LayerSet
from loco_cli.localization import Localization
from loco_cli.manifest import StrengthTrial
from loco_cli.models.session import RunOptions, load_scorer
from loco_cli.protocol.seeds import STRENGTH_SEEDS
from loco_cli.recipe.load import load_recipe, recipe_from_text

KINDS = ("van gogh style", "a cat", "the british monarch fact")
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


def found(**changes):
    known = {
        "model": {"name": "tiny", "family": "sd1"},
        "concept": {"kind": "style", "subject": "monet", "to": "painting"},
        "method": "locogen",
        "search": "fast",
        "width": 2,
        "layer_range": None,
        "effect": 0.9,
        "better": "lower",
        "layers": (),
        "scores": (),
        "original_score": 0.3,
        "target_score": 0.1,
        "prompts": (),
        "seeds": (0,),
        "steps": 20,
        "guidance": 4.0,
        "scorer": "tiny",
        "unet_evaluations": 400,
        "seconds": 0.0,
    }
    return Localization(**{**known, **changes})


@pytest.fixture(scope="module")
def bench(tiny, pipeline):
    scorer = load_scorer(tiny, RunOptions(device="cpu"))
    return EvaluationContext(tiny, pipeline, Scorers(scorer, scorer), batch_size=16)


@pytest.mark.parametrize(
    ("layers", "window", "ranking", "wider"),
    [
        ((8, 9), None, None, (7, 8, 9, 10)),
        ((0, 1), None, None, (0, 1, 2)),
        ((3,), None, None, (2, 3)),
        ((0, 1, 2, 3), None, None, (0, 1, 2, 3)),
        ((0, 3), "set", (0.1, 0.2, 0.3, 0.4, 0.0), (0, 1, 2, 3)),
        ((1, 2), "set", (0.1, 0.0, 0.3, 0.2, 0.4), (1, 2, 3, 4)),
    ],
)
def test_layers_beside_those_that_were_found(layers, window, ranking, wider):
    """
    A range grows at both sides as far as there are layers, a set by what was ranked next.
    """
    n_layers = 12 if max(layers) > 4 else 4

    assert _widen(LayerSet(layers), found(window=window, ranking=ranking), n_layers) == wider


@pytest.mark.parametrize("text", KINDS)
def test_prompts_and_seeds_are_no_evaluation_s(tiny, text):
    """
    No prompt, and no seed, is one of an evaluation of the same recipe.
    """
    recipe = recipe_from_text(text, to="king charles" if "fact" in text else None)
    asked = validation_questions(tiny.spec, recipe)

    assert not {one.prompt for one in asked} & {one.prompt for one in questions(tiny.spec, recipe)}
    assert not set(STRENGTH_SEEDS) & {
        *EvaluationPlan.of(tiny.spec, recipe).seeds,
        *range(recipe.localize.seeds),
    }
    assert sum(one.edit is None for one in asked) == 8


def test_names_of_a_concept_take_turns(tiny):
    """
    An alias is asked for too, and is no picture more.
    """
    asked = [
        one.prompt
        for one in validation_questions(tiny.spec, load_recipe(TWO, "r"))
        if one.edit == 0
    ]

    assert ["vincent" in prompt for prompt in asked] == [False, True] * 4


@pytest.mark.parametrize(
    ("edit", "is_measured"),
    [
        ("{layer_range: auto}", True),
        ("{}", True),
        ("{layers: [8, 9]}", False),
        ("{layer_range: published}", False),
        ("{ridge: 0.1x}", False),
        ("{method: neurons}", False),
        ("{method: diffquickfix}", False),
        ("{strength: fixed}", False),
        ("{strength: measured, layers: [8, 9]}", True),
        ("{strength: measured, method: diffquickfix}", True),
    ],
)
def test_pictures_decide_where_they_are_made_anyway(edit, is_measured):
    """
    By default a strength is measured where layers are looked for; an edit in named ones stays
    one without a picture, unless it is asked for.
    """
    recipe = load_recipe(f"loco: 1\nedits: [{{kind: style, subject: monet}}]\nedit: {edit}", "r")

    assert recipe.edit.is_measured == is_measured


def test_a_rung_is_the_edit_of_its_ridge(bench, tiny, encoder):
    """
    What a trial counts is what the same edit's pictures show; nothing of it stays.
    """
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


def test_what_the_model_cannot_draw_is_not_measured(bench):
    """
    Where the scorer recognises nothing of a concept, no edit is tried.
    """
    text = TWO.replace("a cat", "a bicycle on the moon").replace("van gogh", "hokusai")
    recipe = load_recipe(text, "r")

    measured = measure(bench, recipe, ((8, 9), (4, 5)), lambda layers_of, short: layers_of)

    assert (measured.tried, measured.chosen, measured.chosen_trial) == ((), None, None)


def test_the_command_measures_and_says_so(tmp_path, monkeypatch):
    """
    `loco edit` tries strengths in layers that are named where it is asked to; manifest, report and
    terminal have what was taken, and the recipe that is saved makes the same edit.
    """
    monkeypatch.chdir(tmp_path)
    words = ["edit", "van gogh style", "--layers", "8,9", "--set", "edit.strength=measured"]
    few = ["--set", "edit.target=0.2", "--steps", "8", "--output", "one", "--save-recipe", "r.yaml"]

    first = CliRunner().invoke(app, [*words, *few])
    second = CliRunner().invoke(app, ["edit", "r.yaml", "--output", "two", "--json"])

    assert (first.exit_code, second.exit_code) == (0, 0), first.stderr + second.stderr
    manifest = json.loads((tmp_path / "one" / "loco-manifest.json").read_text())
    again = json.loads(second.stdout)
    strength = manifest["strength"]
    taken = strength["tried"][strength["chosen"]]
    assert taken["ridge"] in first.stderr
    assert "first choosing the strength: at most " in first.stderr
    assert "<h2>Strength</h2>" in (tmp_path / "one" / "loco-report.html").read_text()
    assert taken["layers"] == [[8, 9]]
    assert (again["strength"], again["tensors"]) == (strength, manifest["tensors"])
