"""The shipped recipes; those for `tiny` are run, in given layers for speed."""

import json

import pytest

from loco_cli.families import registry
from loco_cli.recipe.catalog import entries

RECIPES = {entry.name: entry.load() for entry in entries()}
OF_TINY = [name for name, recipe in RECIPES.items() if recipe.model == "tiny"]
KINDS = ("style", "object", "fact")


def known_to(model, kind):
    """Return all names of the concepts of a kind that a model knows."""
    return {name for names in registry.get(model).known_concepts[kind] for name in names}


def test_variety_of_recipes():
    """
    Each kind has recipes for one and for several concepts, and a recipe mixes all kinds.
    """
    kinds = [[edit.kind for edit in recipe.edits] for recipe in RECIPES.values()]

    assert len(RECIPES) >= 12
    for kind in KINDS:
        assert [kind] in kinds
        assert any(len(one) > 1 and set(one) == {kind} for one in kinds)
    assert any(set(one) == set(KINDS) for one in kinds)


def test_limits_in_recipes():
    """
    The comment at the start of a recipe names its limits.
    """
    for name, recipe in RECIPES.items():
        comment = recipe.text.partition("loco: 1")[0]
        assert "\n# Limit" in comment, name
        assert all(line.startswith("# ") for line in comment.splitlines()), name


def test_concepts_of_tiny():
    """
    Recipes for `tiny` use only concepts that it knows, so that they can be evaluated.
    """
    for name in OF_TINY:
        for edit in RECIPES[name].edits:
            known = known_to("tiny", edit.kind)
            assert edit.subject in known, name
            assert edit.to in {*known, "painting", ""}, name


@pytest.mark.parametrize("name", OF_TINY)
def test_recipe_of_tiny(loco, here, name):
    """
    Each recipe for `tiny` gives an edit that passes `loco verify`.
    """
    is_of_unet = RECIPES[name].edit.method != "diffquickfix"
    layers = ["--layer-range", "8", "10"] if is_of_unet else []

    edited = loco("edit", name, *layers, "--output", "out", "--json")
    verified = loco("verify", "out")

    assert edited.exit_code == 0, edited.stderr
    assert verified.exit_code == 0, verified.stderr
    found = json.loads(edited.stdout)
    assert [(one["subject"], one["to"]) for one in found["edits"]] == [
        (concept.subject, concept.to) for concept in RECIPES[name].concepts
    ]
    assert len(found["tensors"]) == (4 if is_of_unet else 1)
