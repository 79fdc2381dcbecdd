"""A set of layers of the model without a plant, where no range is enough."""

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
def bench():
    return SearchContext.load(locate("tiny-plain"), RunOptions(device="cpu", is_cached=False))


@pytest.fixture(scope="module")
def found(bench):
    """What an edit is told: ranges first, and then a set."""
    recipe = recipe_of()
    return localize(bench, recipe.edits[0], recipe.localize, allows_sets=True).localization


def test_where_no_range_is_enough_a_set_is(found):
    """
    Ranges do next to nothing here; layers that need not touch do what all of them do.
    """
    ranges = [one for one in found.scores if len(one.layer_set) <= 4 and one.layer_range]

    assert max(one.effect for one in ranges) < 0.9
    assert found.effect >= 0.9
    assert found.window == "set"
    assert found.width == len(found.layers) < 9


def test_the_set_can_spare_no_layer(found):
    """
    Without any one of its layers it was tried, and was not enough.
    """
    chosen = set(found.layer_set)
    fewer = [
        one
        for one in found.scores
        if len(one.layer_set) == len(chosen) - 1 and set(one.layer_set) < chosen
    ]

    assert len(fewer) == len(chosen)
    assert max(one.effect for one in fewer) < 0.9
    assert "without any one of these layers" in "\n".join(localization_sentences(found))


def test_the_document_names_a_set_that_does_not_touch(found):
    """
    `layer_range` is null where layers do not touch, and a score has `layers` in its place.
    """
    document = found.to_json()

    assert document["layer_range"] is None
    assert document["window"] == "set"
    (chosen,) = [one for one in document["scores"] if one.get("layers") == list(found.layer_set)]
    assert "layer_range" not in chosen
    assert str(list(found.layer_set)) in _noncontiguous(found, 0.9)


def test_nothing_is_made_twice_and_no_more_than_was_said(found):
    """
    The search of a set goes on with the runs of the ranges; the price beforehand is for both.
    """
    priced = locogen.cost(locate("tiny-plain"), recipe_of(), allows_sets=True)[0]
    n_pictures = sum(one.n for one in found.scores) + 2

    assert found.unet_evaluations == n_pictures * 4 * 2 + 4 * 4
    assert found.unet_evaluations <= priced.unet_evaluations


def test_a_planted_range_is_a_set_as_well(tiny, pipeline):
    """
    On the model with a plant the smallest set lies in the layers of the answer key.
    """
    from loco_cli.models.session import load_scorer

    source = "a picture by {subject}"
    recipe = recipe_of("van gogh style", "painting", source, window="set", steps=3)
    bench = SearchContext(
        tiny, pipeline, load_scorer(tiny, RunOptions(device="cpu")), batch_size=16
    )

    chosen = localize(bench, recipe.edits[0], recipe.localize).localization

    assert set(chosen.layer_set) <= {8, 9}
    assert chosen.effect >= 0.9


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"width": 2}, "`--width 2` is for ranges"),
        ({"search": "exhaustive"}, "too many sets to try"),
    ],
)
def test_what_a_set_has_not_is_refused(tiny, settings, reason):
    """
    A set has no width, and no sweep tries all of them.
    """
    with pytest.raises(RequestError, match=reason):
        locogen.check(tiny, recipe_of(window="set", **settings))


@pytest.mark.parametrize(
    ("settings", "may"),
    [({}, True), ({"window": "contiguous"}, False), ({"width": 2}, False)],
)
def test_an_edit_keeps_to_a_range_that_was_asked_for(settings, may):
    """
    A width, or `window: contiguous`, is what the user wants; without them an edit may take a set.
    """
    assert recipe_of(**settings).localize.allows_sets is may
