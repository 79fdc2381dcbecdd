"""Edits of the pooled embedding: the solve, the manifest, and the refusals."""

import torch

from loco_cli.commands import edit, undo, verify
from loco_cli.editing.methods import solve
from loco_cli.errors import RequestError
from loco_cli.evaluating.choice import plan_model_edit
from loco_cli.evaluating.judge import edited_pipeline
from loco_cli.models.encoders import encoder_of
from loco_cli.models.session import RunOptions
from loco_cli.outputs.paths import EditOptions
from loco_cli.recipe.load import recipe_from_text
from loco_cli.recipe.values import Ridge
from tests.pipelines import located, running

SOURCE, TARGET = "a photo of van gogh", "a photo of a cat"


def recipe_of(model, **settings):
    """Return an edit of one prompt in layers 8 and 9 and in the pooling, with all tokens."""
    recipe = recipe_from_text("van gogh object", to="a cat", sources=("a photo of {subject}",))
    edited_settings = {
        "layer_range": (8, 10),
        "tokens": "all",
        "ridge": Ridge(1e-9, is_relative=True),
        "pooled": True,
        **settings,
    }
    changed = {"model": str(model.path), "preserve": "none"}
    return recipe.model_copy(
        update={**changed, "edit": recipe.edit.model_copy(update=edited_settings)}, deep=True
    )


def pooled(pipeline, prompt):
    """Return the pooled embedding of a prompt from the UNet's own module."""
    states = pipeline.prompt_encoder.encode(prompt).states[None]
    with torch.no_grad():
        return pipeline.pipe.unet.add_embedding(states)[0]


def test_the_source_is_pooled_like_its_target():
    """With almost no ridge, the source prompt gets the pooled embedding of its target."""
    model, pipeline = located("deepfloyd"), running("deepfloyd")
    expected, original = pooled(pipeline, TARGET), pooled(pipeline, SOURCE)
    recipe = recipe_of(model)

    with edited_pipeline(pipeline, model, solve(model, recipe, ((8, 9),), encoder_of(model))):
        actual = pooled(pipeline, SOURCE)

    assert (actual - expected).norm() < 0.02 * (original - expected).norm()


def test_the_pooling_does_not_affect_the_layers():
    """The pooling is solved separately, so the changes of the layers stay bit-identical."""
    model = located("deepfloyd")
    encoder = encoder_of(model)
    alone, both = (
        solve(model, recipe_of(model, pooled=is_pooled), ((8, 9),), encoder)
        for is_pooled in (False, True)
    )

    assert [one.name for one in both.changes[:4]] == [one.name for one in alone.changes]
    assert [one.name for one in both.changes[4:]] == [
        f"add_embedding.pool.{name}_proj.weight" for name in "qkv"
    ]
    for mine, theirs in zip(both.changes[:4], alone.changes, strict=True):
        assert torch.equal(mine.update.directions, theirs.update.directions)


def test_an_edit_of_the_pooling_is_recorded_and_undone(tmp_path):
    """The manifest lists the pooling's tensors and no longer calls it unreachable."""
    model, options = located("deepfloyd"), EditOptions(tmp_path / "out")

    manifest = edit.run(edit.plan(recipe_of(model), options), RunOptions(device="cpu")).manifest

    assert sum("add_embedding.pool" in tensor.name for tensor in manifest.tensors) == 3
    assert not any("add_embedding" in one for one in manifest.model.unreachable)
    assert manifest.edits[0].pooled is True
    card = (tmp_path / "out" / "README.md").read_text()
    assert "add_embedding" not in card.split("## Limits")[1]
    assert verify.run(tmp_path / "out").ok
    undo.run(tmp_path / "out", tmp_path / "back")
    for path in model.path.rglob("*.safetensors"):
        assert (tmp_path / "back" / path.relative_to(model.path)).read_bytes() == path.read_bytes()


def test_a_missing_pooling_is_refused(golden):
    """A plan refuses `pooled` for a UNet without a pooling and for a method that ignores it."""
    for name, method in (("tiny", "locoedit"), ("sdxl", "locoedit"), ("deepfloyd", "neurons")):
        model = located(name)
        with golden.raises(RequestError, "`edit.pooled`"):
            plan_model_edit(model, recipe_of(model, method=method))
