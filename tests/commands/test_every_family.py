"""`localize`, `generate` and `evaluate` on a small model of every family."""

import io

import pytest
from PIL import Image

from loco_cli.commands import edit, evaluate, generate
from loco_cli.commands.generate import GenerateOptions
from loco_cli.localizing.runs import SearchContext
from loco_cli.models.session import RunOptions, load_scorer
from loco_cli.outputs.paths import EditOptions
from loco_cli.recipe.load import recipe_from_text
from tests.listeners import RecordingListener
from tests.pipelines import FAMILIES, located, running
from tests.searches import localize

MACHINE = RunOptions(device="cpu", scorer="tiny")
POOLING = ("sdxl", "deepfloyd")  # families with a pooled embedding besides the layers


@pytest.fixture(params=FAMILIES[1:])
def name(request):
    return request.param


def recipe_of(model, **settings):
    recipe = recipe_from_text("van gogh style", sources=("a house by {subject}",), to="painting")
    quick = {
        "localize": {
            "search": "exhaustive",
            "width": model.spec.n_layers - 1,
            "seeds": 1,
            "steps": 1,
            **settings,
        },
        "evaluate": {"seeds": 1, "steps": 1},
    }
    changed = {key: getattr(recipe, key).model_copy(update=value) for key, value in quick.items()}
    return recipe.model_copy(update={"model": str(model.path), **changed})


def test_size_of_images(name):
    """
    An image is eight times the size of the latents, or the size of the UNet for DeepFloyd.
    """
    made = generate.run(
        generate.plan(GenerateOptions(("a cat",), (0,), str(located(name).path), 1)), MACHINE
    )

    side = 16 if name == "deepfloyd" else 64
    assert Image.open(io.BytesIO(made.pictures[0].png)).size == (side, side)


def test_exhaustive_search(name):
    """
    A search scores every layer range, and records if the pooled embedding was swapped.
    """
    model = located(name)
    context = SearchContext(model, running(name), load_scorer(model, MACHINE), batch_size=4)
    recipe = recipe_of(model)

    result = localize(context, recipe.edits[0], recipe.localize).localization

    n = model.spec.n_layers
    assert n == {"sd21": 16, "sdxl": 70, "deepfloyd": 22}[name]
    assert [one.layer_range for one in result.scores] == [(0, n - 1), (1, n)]
    assert result.layers[0].module_path in model.spec.module_paths
    assert result.unet_evaluations == 4 * 2
    assert result.pooled_swapped is (False if name in POOLING else None)


@pytest.mark.parametrize("method", ["locogen", "contribution"])
def test_ranking(name, method):
    """
    Search and contribution rank every layer, and score a few ranges.
    """
    model = located(name)
    context = SearchContext(model, running(name), load_scorer(model, MACHINE), batch_size=4)
    recipe = recipe_of(model, search="fast", width=2, method=method)

    result = localize(context, recipe.edits[0], recipe.localize).localization

    assert len(result.ranking) == model.spec.n_layers
    assert result.method == method
    assert result.width == 2
    assert len(result.scores) <= model.spec.n_layers - 1
    if method == "contribution":
        assert 1 <= len(result.scores) <= 3
        assert min(result.ranking) >= 0


@pytest.mark.parametrize("name", POOLING)
def test_pooled_swap(name):
    """
    Swapping the pooled embedding changes the score of the full swap, and not that of the original.
    """
    model = located(name)
    context = SearchContext(model, running(name), load_scorer(model, MACHINE), batch_size=4)
    alone, pooled = recipe_of(model), recipe_of(model, pooled=True)

    kept = localize(context, alone.edits[0], alone.localize).localization
    swapped = localize(context, pooled.edits[0], pooled.localize).localization

    assert swapped.pooled_swapped is True
    assert swapped.original_score == kept.original_score
    assert swapped.target_score != kept.target_score


@pytest.mark.parametrize("name", POOLING)
def test_unreachable_parts(name, tmp_path):
    """
    An edit warns of every part of the prompt that bypasses the layers.
    """
    model = located(name)
    recipe = recipe_of(model)
    where = recipe.edit.model_copy(update={"layer_range": (8, 10)})
    listener, options = RecordingListener(), EditOptions(tmp_path / "out", form="lora")
    plan = edit.plan(recipe.model_copy(update={"edit": where}), options)

    edit.run(plan, MACHINE, listener.events)

    for part in model.spec.unreachable:
        assert any(part in warning for warning in listener.warnings), part


def test_evaluation_of_sdxl():
    """
    An edit of SDXL in memory changes the images of its prompts.
    """
    recipe = recipe_of(located("sdxl"))
    where = recipe.edit.model_copy(update={"layer_range": (30, 60)})

    result = evaluate.run(
        evaluate.plan(recipe.model_copy(update={"edit": where})), MACHINE
    ).evaluation

    assert result.forget
    assert result.keep
    assert all(row.before != row.after for row in result.forget)
