"""The recipes that ship, at work: those of `tiny` are run, in layers that are named for speed."""

import json

import pytest
from typer.testing import CliRunner

from loco_cli.cli.app import app
from loco_cli.families import registry
from loco_cli.recipe.catalog import entries

RECIPES = {entry.name: entry.load() for entry in entries()}
OF_TINY = [name for name, recipe in RECIPES.items() if recipe.model == "tiny"]
KINDS = ("style", "object", "fact")


def known_to(model, kind):
    """Return every name under which a model knows things of a kind."""
    return {name for names in registry.get(model).known_concepts[kind] for name in names}


def test_there_is_one_for_every_use():
    """
    Styles, objects and facts each stand alone and in company, and some recipes mix the kinds.
    """
    kinds = [[edit.kind for edit in recipe.edits] for recipe in RECIPES.values()]

    assert len(RECIPES) >= 12
    for kind in KINDS:
        assert [kind] in kinds
        assert any(len(one) > 1 and set(one) == {kind} for one in kinds)
    assert any(set(one) == set(KINDS) for one in kinds)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_its_limit(name):
    """
    The comment that opens a recipe says what it does not do.
    """
    head = RECIPES[name].text.partition("loco: 1")[0]

    assert "\n# Limit" in head
    assert all(line.startswith("# ") for line in head.splitlines())


@pytest.mark.parametrize("name", OF_TINY)
def test_a_recipe_of_tiny_names_what_tiny_knows(name):
    """
    Subjects and what they go to are things of the drawn world, so that the recipe can be judged.
    """
    for edit in RECIPES[name].edits:
        known = known_to("tiny", edit.kind)
        assert edit.subject in known
        assert edit.to in {*known, "painting", ""}


@pytest.mark.parametrize("name", OF_TINY)
def test_a_recipe_of_tiny_runs(name, tmp_path, monkeypatch):
    """
    It edits `tiny`, and what it wrote holds against its manifest.
    """
    monkeypatch.chdir(tmp_path)
    is_of_unet = RECIPES[name].edit.method != "diffquickfix"
    where = ["--layer-range", "8", "10"] if is_of_unet else []

    edited = CliRunner().invoke(app, ["edit", name, *where, "--output", "out", "--json"])
    verified = CliRunner().invoke(app, ["verify", "out"])

    assert edited.exit_code == 0, edited.stderr
    assert verified.exit_code == 0, verified.stderr
    found = json.loads(edited.stdout)
    assert [(one["subject"], one["to"]) for one in found["edits"]] == [
        (concept.subject, concept.to) for concept in RECIPES[name].concepts
    ]
    assert len(found["tensors"]) == (4 if is_of_unet else 1)
