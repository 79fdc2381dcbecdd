"""Registries of the methods for editing and for localizing."""

from importlib import import_module
from inspect import signature

import pytest

from loco_cli.editing.methods import EditModule
from loco_cli.methods import EDIT_METHODS, LOCALIZE_METHODS, join_choices
from loco_cli.recipe.record import EditSettings
from loco_cli.recipe.values import parse_ridge


@pytest.mark.parametrize("method", EDIT_METHODS.values(), ids=EDIT_METHODS)
def test_every_editing_method_has_its_module(method):
    """
    The module of a method has the functions of `EditModule`, with the same parameters.

    The settings of a method are keys of `edit` in a recipe.
    """
    module = import_module(method.module)

    for name in ("check", "tensors", "solve"):
        expected = list(signature(getattr(EditModule, name)).parameters)
        assert ["self", *signature(getattr(module, name)).parameters] == expected
    assert set(method.settings) <= set(EditSettings.model_fields)


@pytest.mark.parametrize("method", EDIT_METHODS.values(), ids=EDIT_METHODS)
def test_the_ladder_has_the_fixed_ridge(method):
    """
    A ladder contains the fixed ridge, and its edits go from weak to strong.
    """
    rungs = [parse_ridge(rung) for rung in method.ladder]

    assert EditSettings(method=method.name).fixed_ridge == parse_ridge(method.auto_ridge)
    assert not rungs or method.auto_ridge in method.ladder
    assert sorted(rungs, key=lambda one: -one.value) == rungs
    assert [str(rung) for rung in rungs] == list(method.ladder)


def test_a_method_is_registered_under_its_name():
    """
    The key of every method is its name, and every method has a paper.
    """
    for methods in (EDIT_METHODS, LOCALIZE_METHODS):
        assert all(name == method.name for name, method in methods.items())
        assert all(method.paper.startswith("https://") for method in methods.values())


def test_joins_choices():
    """
    Names are joined with commas and a final "or".
    """
    assert join_choices(["a", "b", "c"]) == "a, b or c"
    assert join_choices(["a"]) == "a"
