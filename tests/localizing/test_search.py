"""A fast search of the model that ships: what it counts, what it says, what it leaves out."""

import pytest

from loco_cli.commands import localize as command
from loco_cli.localizing.runs import SearchContext
from loco_cli.models.session import RunOptions, load_scorer
from loco_cli.recipe.load import recipe_from_text
from loco_cli.report.localization import localization_sentences
from tests.searches import localize

SOURCES = ("a painting in the style of {subject}", "a picture by {subject}")


def recipe_of(text="van gogh style", to="painting", **localize):
    recipe = recipe_from_text(text, sources=SOURCES, to=to)
    settings = {"search": "fast", "seeds": 2, "steps": 4, **localize}
    return recipe.model_copy(update={"localize": recipe.localize.model_copy(update=settings)})


@pytest.fixture(scope="module")
def bench(tiny, pipeline) -> SearchContext:
    return SearchContext(tiny, pipeline, load_scorer(tiny, RunOptions(device="cpu")), batch_size=16)


def search(bench, recipe):
    return localize(bench, recipe.edits[0], recipe.localize)


@pytest.fixture(scope="module")
def swept(bench):
    return search(bench, recipe_of(width=2))


def test_the_planted_layer_is_found_and_measured(swept):
    """
    Four steps show where the style is; the chosen window saw every prompt.
    """
    found = swept.localization

    assert set(found.layer_set) & {8, 9}
    assert (found.search, found.width) == ("fast", 2)
    (chosen,) = [one for one in found.scores if one.layer_set == found.layer_set]
    assert chosen.effect == found.effect
    assert chosen.n >= len(found.prompts)


def test_scores_hold_every_window_that_was_tried_and_no_other(swept):
    """
    Each counts its own runs; original and full swap are the scale and stand apart.
    """
    found = swept.localization

    assert len({one.layer_set for one in found.scores}) == len(found.scores) < 15
    assert {one.n for one in found.scores} <= {1, 2, 4}
    assert found.original_score > found.target_score
    assert len(found.ranking) == 16
    assert max(range(16), key=found.ranking.__getitem__) in (8, 9)


def test_everything_is_counted(swept):
    """
    Pictures count their steps twice; the ranking replays all steps of both prompts, at four each.
    """
    found = swept.localization
    n_scored = sum(one.n for one in found.scores)
    # two prompts and two seeds; the full swap of a style has the same target for both prompts, so
    # that it is drawn once per seed and scored with every prompt
    n_original, n_full = 4, 2

    n_pictures = n_scored + n_original + n_full

    assert found.unet_evaluations == n_pictures * 4 * 2 + 2 * 4 * 4


def test_it_costs_no_more_than_was_said(swept):
    """
    The plan's price is an upper bound.
    """
    priced = command.plan(recipe_of(width=2)).document().localize

    assert swept.localization.unet_evaluations <= priced.unet_evaluations


def test_the_same_search_gives_the_same_answer(bench, swept):
    """
    Nothing is drawn by chance.
    """
    assert search(bench, recipe_of(width=2)).localization.scores == swept.localization.scores


def test_it_says_what_it_left_out(swept):
    """
    A search that did not try everything says so, and how to.
    """
    said = "\n".join(localization_sentences(swept.localization))

    assert "of the ranges of 16 layers" in said
    assert "`--search exhaustive` tries all" in said


def test_a_single_window_is_no_search(bench):
    """
    A range of all layers is the full swap, and nothing is ranked.
    """
    found = search(bench, recipe_of(width=16, seeds=1, steps=1)).localization

    assert found.layer_range == (0, 16)
    assert found.ranking is None


@pytest.mark.parametrize(
    ("text", "to", "source", "key"),
    [
        ("klimt style", "painting", "a picture by {subject}", (8, 9)),
        ("a boat object", "a fish", "a photo of {subject}", (4, 5)),
        ("the german chancellor fact", "olaf scholz", "a photo of {subject}", (6, 7)),
    ],
)
def test_the_subject_adds_most_where_it_was_planted(bench, text, to, source, key):
    """
    One generation per prompt names the layer, and its effect is measured on top.
    """
    recipe = recipe_from_text(text, sources=(source,), to=to)
    settings = {"method": "contribution", "width": "auto", "seeds": 1, "steps": 4}

    found = localize(
        bench, recipe.edits[0], recipe.localize.model_copy(update=settings)
    ).localization

    assert set(found.layer_set) & set(key)
    assert found.effect is not None
    assert len(found.scores) <= 4
    n_pictures = sum(one.n for one in found.scores) + 2
    assert found.unet_evaluations == n_pictures * 4 * 2 + 4
