"""`localize --method neurons`: the channels that respond to a concept, and their effect."""

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
def test_every_family_lists_and_fixes_neurons(name):
    """Each projection lists N channels, and fixing them changes the score."""
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
    page = render_localization_report([swept])
    assert f"{len(channels)} channels" in page
    assert "Swapping" not in page


def test_an_edit_fixes_the_listed_channels(tiny):
    """`edit` fixes the channels that `localize` lists, the largest z-score first."""
    recipe, encoder = recipe_of(tiny, edit={"method": "neurons"}), encoder_of(tiny)

    (listed,) = rank_neurons(tiny, recipe, [(8, 9)], encoder)
    changes = solve(tiny, recipe.model_copy(update={"preserve": "none"}), [(8, 9)], encoder).changes

    assert [tuple(change.update.chosen[0].tolist()) for change in changes] == [
        one.fixed.channels for one in listed
    ]
    assert all(abs(a) >= abs(b) for one in listed for a, b in zip(one.z, one.z[1:], strict=False))


def test_missing_layers_are_searched_for(tiny):
    """LocoGen finds the layers, its cost counts, and the plan is an upper limit."""
    recipe = recipe_of(tiny, edit={"layer_range": "auto"}, width=15, search="exhaustive")

    plan = command.plan(recipe).document()
    (swept,) = neurons.run(SearchContext.load(tiny, MACHINE), recipe)

    assert swept.localization.width == 15
    searched = swept.localization.unet_evaluations - plan.pictures.unet_evaluations
    assert 0 < searched <= plan.localize.unet_evaluations  # pictures that are alike are made once


def test_a_plan_refuses_wrong_settings(tiny, golden):
    """A plan raises every error that the listing would raise."""
    wrong = {
        "65": {"edit": {"neurons": 65}},
        "16": {"edit": {"layer_range": (8, 17)}},
        "`tiny`": {"pooled": True},
        "17": {"width": 17},
    }

    for name, settings in wrong.items():
        with golden.raises(RequestError, name):
            command.plan(recipe_of(tiny, **settings)).document()
