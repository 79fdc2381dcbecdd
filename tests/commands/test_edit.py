"""`loco edit` on `tiny`: its files, its images and its undo."""

import json
import logging
import shutil

import pytest
import torch
from diffusers import StableDiffusionPipeline

from loco_cli.commands import diff as compare
from loco_cli.commands import edit, undo, verify
from loco_cli.editing.methods import solve
from loco_cli.evaluating.judge import edited_pipeline
from loco_cli.events import SILENT_EVENTS
from loco_cli.interventions import Run
from loco_cli.models.locate import locate
from loco_cli.models.session import RunOptions, load_model
from loco_cli.outputs.paths import EditOptions
from loco_cli.recipe.load import load_recipe, recipe_from_text
from loco_cli.report.sentences import preview_sentences
from loco_cli.sampling.sample import sample_batch
from tests.checkpoints import tree_bytes
from tests.listeners import RecordingListener

CPU = RunOptions(device="cpu")
PROMPTS = ("a castle in the style of van gogh", "a photo of a cat")
ALL_KINDS = """
loco: 1
title: A style, an object and a fact
edits:
  - {kind: style, subject: van gogh}
  - {kind: object, subject: snoopy, to: a dog}
  - {kind: fact, subject: the british monarch, was: queen elizabeth, to: king charles}
edit: {layer_range: published}
"""


def style(*layers, model="tiny", **settings):
    recipe = recipe_from_text("van gogh style")
    at = recipe.edit.model_copy(update={"layer_range": None, "layers": layers, **settings})
    return recipe.model_copy(update={"model": model, "edit": at})


def edited(recipe, output, events=SILENT_EVENTS, **options):
    """Plan and make an edit."""
    return edit.run(edit.plan(recipe, EditOptions(output, **options)), CPU, events)


def pictures(pipeline):
    return sample_batch(pipeline, [Run(p, 3) for p in PROMPTS], steps=2, guidance=4.0)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """An edit of layers 8 and 9 of `tiny`, as a folder; to be read only."""
    output = tmp_path_factory.mktemp("edit") / "edited"
    return edited(style(8, 9), output)


def test_unedited_weights(tiny, tmp_path):
    """
    Weights that are copied without an edit are listed in the manifest, with a warning.
    """
    base = shutil.copytree(tiny.path, tmp_path / "base")
    shutil.copytree(base / "unet", base / "old" / "unet")
    (path,) = (f"old/unet/{one.name}" for one in (base / "unet").glob("*.safetensors"))

    listener = RecordingListener()
    done = edited(style(8, model=str(base)), tmp_path / "out", listener.events)

    assert done.manifest.base.carried == (path,)
    assert len([warning for warning in listener.warnings if path in warning]) == 1
    assert (tmp_path / "out" / path).read_bytes() == (base / path).read_bytes()


def test_diffusers_loads_the_folder(written):
    """
    Diffusers finds every expected key in an edited folder, and no other.
    """
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    libraries = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    for library in libraries:
        library.addHandler(handler)

    StableDiffusionPipeline.from_pretrained(written.paths.root, safety_checker=None)

    for library in libraries:
        library.removeHandler(handler)
    words = ("unexpected", "missing", "not used", "newly initialized", "mismatch")
    assert [text for text in records if any(word in text.lower() for word in words)] == []


def test_images_from_files_and_in_memory(written, tiny, pipeline, encoder):
    """
    A written edit draws the same images as the edit in memory, bit for bit.
    """
    loaded = load_model(locate(str(written.paths.root)), CPU)
    from_file = pictures(loaded)

    with edited_pipeline(pipeline, tiny, solve(tiny, style(8, 9), ((8, 9),), encoder)):
        in_memory = pictures(pipeline)

    assert torch.equal(from_file, in_memory)
    assert not torch.equal(from_file, pictures(pipeline))


def test_diff_of_an_edit(written, tiny):
    """
    Only the keys and values of layers 8 and 9 differ, and the manifest lists them.
    """
    differences = compare.run(tiny.path, written.paths.root)

    listed = [tensor.name for tensor in written.manifest.tensors]
    assert sorted(tensor.name for tensor in differences.tensors) == sorted(listed)
    assert set(listed) == {n for i in (8, 9) for n in tiny.spec.layers[i].tensor_names()}
    assert differences.manifest.matches
    assert differences.counts.changed == 4


def test_manifest_of_an_edit(written):
    """
    The manifest has the recipe, the edit, the preserved prompts, and the figures of each tensor.
    """
    manifest = written.manifest
    (one,) = manifest.edits

    assert (one.kind, one.subject, one.to) == ("style", "van gogh", "painting")
    assert one.layer_range == (8, 10)
    assert one.tokens == "subject-to-end"
    assert one.n_keys > 0
    assert manifest.preserve
    assert "van gogh" not in manifest.preserve
    for tensor in manifest.tensors:
        assert tensor.relative_change > 0
        assert tensor.rank > 0
    assert json.loads(written.paths.manifest.read_text()) == manifest.to_json()


def test_report_card_and_recipe(written):
    """
    An edited folder has its recipe, a report and a model card.
    """
    paths = written.paths

    assert paths.recipe.read_text() == style(8, 9).text
    assert "van gogh" in paths.report.read_text()
    assert paths.card.read_text().startswith("---\n")


def test_several_edits(tmp_path, tiny):
    """
    Edits of a recipe change the union of their layers, and undo restores the base.
    """
    recipe = load_recipe(ALL_KINDS, "all.yaml")

    done = edited(recipe, tmp_path / "out")

    listed = {tensor.name for tensor in done.manifest.tensors}
    assert listed == {n for i in range(4, 10) for n in tiny.spec.layers[i].tensor_names()}
    assert [one.layer_range for one in done.manifest.edits] == [(8, 10), (4, 6), (6, 8)]
    undo.run(tmp_path / "out", tmp_path / "base")
    assert tree_bytes(tmp_path / "base") == tree_bytes(tiny.path)


def test_set_of_layers(tmp_path):
    """
    A set of layers is listed in the manifest in place of a range.
    """
    listener = RecordingListener()

    done = edited(style(1, 2, 10), tmp_path / "out", listener.events)

    (one,) = done.manifest.edits
    assert one.layer_range is None
    assert one.layers == (1, 2, 10)
    (preview,) = listener.previews
    assert "in layers 1, 2 and 10: " in preview_sentences(preview)[0]
    assert preview.drift == done.manifest.drift


def test_edit_of_a_file(written, tmp_path, tiny_file):
    """
    A single file gives a file of the same layout, with the tensors of an edited folder.
    """
    output = tmp_path / "edited.safetensors"

    done = edited(style(8, 9, model=str(tiny_file)), output)

    def figures(manifest):
        return sorted((t.sha256_before, t.sha256_after, t.rank) for t in manifest.tensors)

    assert verify.run(output).ok
    differences = compare.run(tiny_file, output)
    names = [tensor.name for tensor in differences.tensors]
    assert differences.manifest.matches
    assert len(names) == 4
    assert all(name.startswith("model.diffusion_model.") for name in names)
    assert sorted(tensor.name for tensor in done.manifest.tensors) == names
    assert figures(done.manifest) == figures(written.manifest)
    undo.run(output, tmp_path / "base.safetensors")
    assert (tmp_path / "base.safetensors").read_bytes() == tiny_file.read_bytes()


def test_edit_with_a_search(tmp_path):
    """
    With `layer_range: auto`, the manifest has the localization that found the layers.
    """
    recipe = recipe_from_text("van gogh style", sources=("a house by {subject}",))
    quick = recipe.localize.model_copy(update={"width": 15, "seeds": 1, "steps": 1})
    fixed = recipe.edit.model_copy(update={"strength": "fixed"})
    recipe = recipe.model_copy(update={"localize": quick, "edit": fixed})

    done = edited(recipe, tmp_path / "out")

    (localization,) = done.manifest.localizations
    assert localization["schema"] == "loco.localization/1"
    assert done.manifest.edits[0].layer_range == tuple(localization["layer_range"])
    assert len(done.manifest.tensors) == 30
    assert done.manifest.seconds.localize > 0


def test_edit_of_an_edit(written, tmp_path):
    """
    An output can be a base, which the manifest names as its parent.
    """
    base = written.paths.root
    recipe = recipe_from_text("snoopy object", to="a dog")
    at = recipe.edit.model_copy(update={"layer_range": None, "layers": (4, 5)})
    recipe = recipe.model_copy(update={"model": str(base), "edit": at})

    done = edited(recipe, tmp_path / "twice")

    assert done.manifest.base.parent.manifest == written.manifest.digest()
    assert verify.run(tmp_path / "twice").ok
    undo.run(tmp_path / "twice", tmp_path / "once")
    assert tree_bytes(tmp_path / "once") == tree_bytes(base)


def test_saved_recipe(tmp_path):
    """
    A saved recipe includes the overrides of the command line, and gives the same edit.
    """
    from loco_cli.cli.request import recipe_of

    recipe = recipe_of("van gogh style", edit_layers=(8,), edit_ridge="0.5x")
    first = edited(recipe, tmp_path / "one", save_recipe=tmp_path / "saved.yaml")

    again = load_recipe((tmp_path / "saved.yaml").read_text(), "saved.yaml")
    second = edited(again, tmp_path / "two")

    assert second.manifest.edits == first.manifest.edits
    weights = "unet/diffusion_pytorch_model.safetensors"
    tensors = [[t.sha256_after for t in one.manifest.tensors] for one in (first, second)]
    assert tensors[0] == tensors[1]
    assert (tmp_path / "one" / weights).stat().st_size > 0


@pytest.mark.parametrize("stage", ["solving", "writing"])
def test_interrupt(tmp_path, stage):
    """
    An interrupt in any stage of an edit leaves no file.
    """

    def interrupt(progress):
        if progress.stage == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        edited(style(8), tmp_path / "out", RecordingListener(on_progress=interrupt).events)

    assert list(tmp_path.iterdir()) == []
