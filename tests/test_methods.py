"""
Tests of the registries of methods.
"""

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
    The module that a row names has the functions of its form, each with the same parameters.

    What only the method reads are keys of a recipe's `edit`.
    """
    module = import_module(method.module)

    for name in ("check", "tensors", "solve"):
        form = list(signature(getattr(EditModule, name)).parameters)
        assert ["self", *signature(getattr(module, name)).parameters] == form
    assert set(method.settings) <= set(EditSettings.model_fields)


@pytest.mark.parametrize("method", EDIT_METHODS.values(), ids=EDIT_METHODS)
def test_the_constant_is_a_rung(method):
    """
    A ladder holds what is taken without a picture, and goes from gentle to strong.
    """
    rungs = [parse_ridge(rung) for rung in method.ladder]

    assert EditSettings(method=method.name).fixed_ridge == parse_ridge(method.auto_ridge)
    assert not rungs or method.auto_ridge in method.ladder
    assert sorted(rungs, key=lambda one: -one.value) == rungs
    assert [str(rung) for rung in rungs] == list(method.ladder)


@pytest.mark.parametrize("methods", [EDIT_METHODS, LOCALIZE_METHODS])
def test_a_method_is_found_by_its_name(methods):
    """
    A row's key is its name, and every row names a paper.
    """
    assert all(name == method.name for name, method in methods.items())
    assert all(method.paper.startswith("https://") for method in methods.values())


def test_choices_are_listed_as_a_sentence_has_them():
    """
    Names are joined by commas, the last one by "or".
    """
    assert join_choices(["a", "b", "c"]) == "a, b or c"
    assert join_choices(["a"]) == "a"
