"""A set of layers in the model without a planted range."""

import pytest

from loco_cli.errors import RequestError
from loco_cli.localizing import locogen
from loco_cli.localizing.runs import SearchContext
from loco_cli.models.locate import locate
from loco_cli.models.session import RunOptions
from loco_cli.recipe.load import recipe_from_text
from loco_cli.report.localization import _noncontiguous, localization_sentences
from tests.searches import localize


def recipe_of(text="a flower object", to="a tree", source="a photo of {subject}", **localize):
    recipe = recipe_from_text(text, sources=(source,), to=to)
    settings = {"seeds": 1, "steps": 4, **localize}
    return recipe.model_copy(
        update={
            "model": "tiny-plain",
            "localize": recipe.localize.model_copy(update=settings),
        }
    )


@pytest.fixture(scope="module")
def plain_bench():
    return SearchContext.load(locate("tiny-plain"), RunOptions(device="cpu", is_cached=False))


@pytest.fixture(scope="module")
def found(plain_bench):
    """The search of an edit: ranges first, then a set."""
    recipe = recipe_of()
    return localize(plain_bench, recipe.edits[0], recipe.localize, allows_sets=True).localization


def test_a_set_works_where_no_range_does(found):
    """Ranges have almost no effect here, but a scattered set has that of all layers."""
    ranges = [one for one in found.scores if len(one.layer_set) <= 4 and one.layer_range]

    assert max(one.effect for one in ranges) < 0.9
    assert found.effect >= 0.9
    assert found.window == "set"
    assert found.width == len(found.layers) < 9


def test_the_set_is_a_local_minimum(found):
    """The search tried the set without each single layer, and none of these passed."""
    chosen = set(found.layer_set)
    fewer = [
        one
        for one in found.scores
        if len(one.layer_set) == len(chosen) - 1 and set(one.layer_set) < chosen
    ]

    assert len(fewer) == len(chosen)
    assert max(one.effect for one in fewer) < 0.9
    assert "without any one of these layers" in "\n".join(localization_sentences(found))


def test_the_document_lists_scattered_layers(found):
    """`layer_range` is null for scattered layers, and their score has `layers` instead."""
    document = found.to_json()

    assert document["layer_range"] is None
    assert document["window"] == "set"
    (chosen,) = [one for one in document["scores"] if one.get("layers") == list(found.layer_set)]
    assert "layer_range" not in chosen
    assert str(list(found.layer_set)) in _noncontiguous(found, 0.9)


def test_the_plan_covers_ranges_and_sets(found):
    """The set search reuses the runs of the ranges, and the plan is an upper limit."""
    priced = locogen.cost(locate("tiny-plain"), recipe_of(), allows_sets=True)[0]
    n_pictures = sum(one.n for one in found.scores) + 2

    assert found.unet_evaluations == n_pictures * 4 * 2 + 4 * 4
    assert found.unet_evaluations <= priced.unet_evaluations


def test_a_planted_range_is_found_as_a_set(bench):
    """In the model with planted layers, the smallest set is within them."""
    source = "a picture by {subject}"
    recipe = recipe_of("van gogh style", "painting", source, window="set", steps=3)
    chosen = localize(bench, recipe.edits[0], recipe.localize).localization

    assert set(chosen.layer_set) <= {8, 9}
    assert chosen.effect >= 0.9


def test_a_set_takes_no_width_and_no_sweep(tiny, golden):
    """A set has no width, and no sweep tries all sets."""
    for name, settings in (("--width", {"width": 2}), ("--search", {"search": "exhaustive"})):
        with golden.raises(RequestError, name):
            locogen.check(tiny, recipe_of(window="set", **settings))


def test_a_requested_range_forbids_sets():
    """A width or `window: contiguous` forbids sets; by default an edit may use one."""
    assert recipe_of().localize.allows_sets
    assert not recipe_of(window="contiguous").localize.allows_sets
    assert not recipe_of(width=2).localize.allows_sets
