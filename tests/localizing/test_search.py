"""A fast search of the shipped model: its counts, its cost and its answer."""

import pytest

from loco_cli.commands import localize as command
from loco_cli.recipe.load import recipe_from_text
from loco_cli.report.localization import localization_sentences
from tests.searches import localize

SOURCES = ("a painting in the style of {subject}", "a picture by {subject}")


def recipe_of(text="van gogh style", to="painting", **localize):
    recipe = recipe_from_text(text, sources=SOURCES, to=to)
    settings = {"search": "fast", "seeds": 2, "steps": 4, **localize}
    return recipe.model_copy(update={"localize": recipe.localize.model_copy(update=settings)})


def search(bench, recipe):
    return localize(bench, recipe.edits[0], recipe.localize)


@pytest.fixture(scope="module")
def swept(bench):
    return search(bench, recipe_of(width=2))


def test_the_planted_layer_is_found(swept):
    """Four steps find the style's layers, and every prompt measures the chosen window."""
    found = swept.localization

    assert set(found.layer_set) & {8, 9}
    assert (found.search, found.width) == ("fast", 2)
    (chosen,) = [one for one in found.scores if one.layer_set == found.layer_set]
    assert chosen.effect == found.effect
    assert chosen.n >= len(found.prompts)


def test_scores_list_each_tried_window_once(swept):
    """Each window counts its own runs; the original and the full swap are separate."""
    found = swept.localization

    assert len({one.layer_set for one in found.scores}) == len(found.scores) < 15
    assert {one.n for one in found.scores} <= {1, 2, 4}
    assert found.original_score > found.target_score
    assert len(found.ranking) == 16
    assert max(range(16), key=found.ranking.__getitem__) in (8, 9)


def test_every_evaluation_counts(swept):
    """Guidance doubles the steps of a picture, and the ranking counts four passes a step."""
    found = swept.localization
    n_scored = sum(one.n for one in found.scores)
    # both prompts of a style have the same target, so they share one full swap per seed
    n_original, n_full = 4, 2

    n_pictures = n_scored + n_original + n_full

    assert found.unet_evaluations == n_pictures * 4 * 2 + 2 * 4 * 4


def test_the_plan_is_an_upper_limit(swept):
    """A search takes at most the evaluations of its plan."""
    priced = command.plan(recipe_of(width=2)).document().localize

    assert swept.localization.unet_evaluations <= priced.unet_evaluations


def test_a_search_is_deterministic(bench, swept):
    """The same search gives the same scores."""
    assert search(bench, recipe_of(width=2)).localization.scores == swept.localization.scores


def test_the_sentences_name_the_exhaustive_search(swept):
    """A search that did not try every window says so and names the option that does."""
    sentences = "\n".join(localization_sentences(swept.localization))

    assert "`--search exhaustive`" in sentences


def test_a_single_window_is_not_ranked(bench):
    """A window of all layers is the full swap, and its search ranks nothing."""
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
def test_contribution_finds_the_planted_layers(bench, text, to, source, key):
    """One generation per prompt ranks the layers, and a few windows confirm the answer."""
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
