"""`localize --method neurons`: the channels that tell a concept, and what holding them does."""

import pytest

from loco_cli.commands import localize as command
from loco_cli.editing.methods import solve
from loco_cli.editing.neurons import rank_neurons
from loco_cli.errors import RequestError
from loco_cli.localizing import neurons
from loco_cli.localizing.runs import SearchContext
from loco_cli.models.encoders import encoder_of
from loco_cli.models.session import RunOptions
from loco_cli.recipe.load import recipe_from_text
from loco_cli.report.html import render_localization_report
from loco_cli.report.localization import localization_sentences
from tests.pipelines import FAMILIES, located

MACHINE = RunOptions(device="cpu", scorer="tiny")
SOURCES = ("a house by {subject}", "a tree by {subject}")


def recipe_of(model, edit=None, **localize):
    recipe = recipe_from_text("van gogh style", sources=SOURCES, to="painting")
    quick = {
        "localize": {"method": "neurons", "seeds": 1, "steps": 1, **localize},
        "edit": {"neurons": 5, "layer_range": (8, 10), **(edit or {})},
    }
    changed = {key: getattr(recipe, key).model_copy(update=value) for key, value in quick.items()}
    return recipe.model_copy(update={"model": str(model.path), **changed})


@pytest.mark.parametrize("name", FAMILIES)
def test_neurons_are_found_and_held_in_every_family(name):
    """
    Each projection of the layers names N channels, and holding them changes the score.
    """
    model = located(name)
    recipe = recipe_of(model)

    (swept,) = neurons.run(SearchContext.load(model, MACHINE), recipe)

    found, channels = swept.localization, swept.localization.neurons.channels
    assert (found.method, found.layer_range, len(found.scores)) == ("neurons", (8, 10), 1)
    projections = {one.module_path for one in channels}
    assert len(projections) == 4
    assert [one.module_path for one in channels] == [
        path for path in dict.fromkeys(one.module_path for one in channels) for _ in range(5)
    ]
    assert found.scores[0].score != found.original_score
    assert found.unet_evaluations == command.plan(recipe).document().pictures.unet_evaluations
    assert len(swept.pictures) == 3 * len(SOURCES)
    known = found.model_copy(update={"original_score": 1.0})  # a small model knows nothing
    assert localization_sentences(known)[0].startswith(
        "holding 20 channels of 4 projections in layers 8 and 9"
    )
    page = render_localization_report([swept])
    assert f"Holding {len(channels)} channels of these layers at their mean" in page
    assert "Swapping" not in page
    assert "Pictures with the channels held" in page


def test_an_edit_takes_the_channels_that_are_listed(tiny):
    """
    What `localize` lists is what `edit` holds, each channel at its mean over the plain prompts.
    """
    recipe, encoder = recipe_of(tiny, edit={"method": "neurons"}), encoder_of(tiny)

    (listed,) = rank_neurons(tiny, recipe, [(8, 9)], encoder)
    changes = solve(tiny, recipe.model_copy(update={"preserve": "none"}), [(8, 9)], encoder).changes

    assert [tuple(change.update.chosen[0].tolist()) for change in changes] == [
        one.fixed.channels for one in listed
    ]
    assert all(abs(a) >= abs(b) for one in listed for a, b in zip(one.z, one.z[1:], strict=False))


def test_without_layers_they_are_found_first(tiny):
    """
    The layers are LocoGen's, and what it costs to find them is counted; the plan is its limit.
    """
    recipe = recipe_of(tiny, edit={"layer_range": "auto"}, width=15, search="exhaustive")

    plan = command.plan(recipe).document()
    (swept,) = neurons.run(SearchContext.load(tiny, MACHINE), recipe)

    assert swept.localization.width == 15
    searched = swept.localization.unet_evaluations - plan.pictures.unet_evaluations
    assert 0 < searched <= plan.localize.unet_evaluations  # pictures that are alike are made once


@pytest.mark.parametrize(
    ("localize", "edit", "message"),
    [
        ({}, {"neurons": 65}, "cannot edit 65 neurons: layer 8 of `tiny` has 64"),
        ({}, {"layer_range": (8, 17)}, "layer 16 does not exist"),
        ({"pooled": True}, {}, "`tiny` has no pooled prompt"),
        ({"width": 17}, {}, "window width 17"),
    ],
)
def test_what_cannot_be_listed_is_refused(tiny, localize, edit, message):
    """
    A plan refuses what the listing would.
    """
    with pytest.raises(RequestError, match=message):
        command.plan(recipe_of(tiny, edit=edit, **localize)).document()
