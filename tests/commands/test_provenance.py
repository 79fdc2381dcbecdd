"""Settings in a recipe file and on the command line, which must have the same effect."""

import json
from pathlib import Path

import pytest

from loco_cli.commands import edit, evaluate, localize
from loco_cli.errors import LocoError
from loco_cli.outputs.paths import EditOptions
from loco_cli.recipe.load import Override, load_recipe
from loco_cli.recipe.record import EditSettings, EvaluateSettings, LocalizeSettings

SECTIONS = {"localize": LocalizeSettings, "edit": EditSettings, "evaluate": EvaluateSettings}
VALUES = {
    "localize.method": "contribution",
    "localize.search": "exhaustive",
    "localize.width": 2,
    "localize.window": "set",
    "localize.seeds": 2,
    "localize.effect": 0.5,
    "localize.steps": 3,
    "localize.guidance": 2.0,
    "localize.pooled": True,
    "localize.component": "unet",
    "localize.noise": 2.0,
    "edit.method": "neurons",
    "edit.layer_range": [8, 10],
    "edit.layers": [8, 9],
    "edit.ridge": 0.5,
    "edit.strength": "measured",
    "edit.target": 0.9,
    "edit.tokens": "all",
    "edit.encoders": "all",
    "edit.pooled": True,
    "edit.preserve_form": "null-space",
    "edit.neurons": 5,
    "edit.position": "last",
    "edit.hold": "inference",
    "evaluate.seeds": 2,
    "evaluate.forget": ["a cat by monet"],
    "evaluate.keep": ["a cat"],
    "evaluate.steps": 3,
    "evaluate.guidance": 2.0,
}


def outcome(plan, recipe):
    """Return the plan of a recipe, or the error that refuses it."""
    try:
        return plan(recipe).to_json()
    except LocoError as error:
        return type(error), str(error), error.hint


def recipes(key, value, method):
    """Return a recipe with a setting in its file, and one with the setting as an override."""
    document = {"loco": 1, "edits": [{"kind": "style", "subject": "monet"}]}
    section, name = key.split(".")
    base = {**document, "localize": {"method": method}}
    in_file = {**base, section: {**base.get(section, {}), name: value}}
    override = Override.parse(f"{key}={json.dumps(value)}")
    return load_recipe(json.dumps(in_file), "r"), load_recipe(json.dumps(base), "r", [override])


def test_every_key_has_a_value_to_try():
    """
    `VALUES` has every key of a recipe, with a value that is not its default.
    """
    keys = {f"{name}.{key}" for name, kind in SECTIONS.items() for key in kind.model_fields}

    assert set(VALUES) == keys
    for key, value in VALUES.items():
        section, name = key.split(".")
        assert value != getattr(SECTIONS[section](), name)


def localization(recipe):
    """Return the plan of a localization."""
    return localize.plan(recipe).document()


def edition(recipe):
    """Return the plan of an edit."""
    return edit.plan(recipe, EditOptions(Path("out"))).document()


def evaluation(recipe):
    """Return the plan of an evaluation."""
    return evaluate.plan(recipe).document()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("key", VALUES)
def test_file_and_override_give_the_same_plan(key):
    """
    A setting gives the same plan or the same error in a file and as an override.
    """
    for method in ("locogen", "causal-trace"):
        in_file, overridden = recipes(key, VALUES[key], method)
        for plan in (localization, edition, evaluation):
            assert outcome(plan, in_file) == outcome(plan, overridden), (method, plan.__name__)
