"""An edit of the model that ships, written and loaded again."""

import json
import logging
import shutil

import pytest
import torch
from diffusers import StableDiffusionPipeline

from loco_cli.commands import diff as compare
from loco_cli.commands import edit, undo, verify
from loco_cli.editing.methods import solve
from loco_cli.errors import ConceptError, EditError, OutputExists
from loco_cli.evaluating.judge import edited_pipeline
from loco_cli.interventions import Run
from loco_cli.models.locate import locate
from loco_cli.models.session import RunOptions, load_model
from loco_cli.outputs.paths import EditOptions
from loco_cli.recipe.load import load_recipe, recipe_from_text
from loco_cli.recipe.values import Ridge
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
    found = recipe.edit.model_copy(update={"layer_range": None, "layers": layers, **settings})
    return recipe.model_copy(update={"model": model, "edit": found})


def pictures(pipeline):
    return sample_batch(pipeline, [Run(p, 3) for p in PROMPTS], steps=2, guidance=4.0)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """`van gogh` taken out of layers 8 and 9 of `tiny`, as a folder; only read."""
    output = tmp_path_factory.mktemp("edit") / "edited"
    return edit.run(edit.plan(style(8, 9), EditOptions(output)), CPU)


def test_weights_that_are_copied_unedited_are_named(tiny, tmp_path):
    """
    A UNet that was put aside keeps what the edit takes out: a warning and the manifest say so.
    """
    base = shutil.copytree(tiny.path, tmp_path / "base")
    shutil.copytree(base / "unet", base / "old" / "unet")
    (path,) = (f"old/unet/{one.name}" for one in (base / "unet").glob("*.safetensors"))

    heard, plan = (
        RecordingListener(),
        edit.plan(style(8, model=str(base)), EditOptions(tmp_path / "out")),
    )
    found = edit.run(plan, CPU, heard.events)

    assert found.manifest.base.carried == (path,)
    assert f"these weights were copied and not edited: `{path}`" in heard.warnings
    assert (tmp_path / "out" / path).read_bytes() == (base / path).read_bytes()


def test_the_folder_loads_without_a_word(written):
    """
    `StableDiffusionPipeline.from_pretrained` finds every key that it expects, and no other.
    """
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    libraries = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    for library in libraries:
        library.addHandler(handler)

    StableDiffusionPipeline.from_pretrained(written.paths.root, safety_checker=None)

    for library in libraries:
        library.removeHandler(handler)
    words = ("unexpected", "missing", "not used", "newly initialized", "mismatch")
    assert [text for text in said if any(word in text.lower() for word in words)] == []


def test_the_folder_draws_what_the_edit_in_memory_draws(written, tiny, pipeline, encoder):
    """
    Pictures of the written folder are those of the same edit made in memory, bit for bit.
    """
    loaded = load_model(locate(str(written.paths.root)), CPU)
    from_file = pictures(loaded)

    with edited_pipeline(pipeline, tiny, solve(tiny, style(8, 9), ((8, 9),), encoder)):
        in_memory = pictures(pipeline)

    assert torch.equal(from_file, in_memory)
    assert not torch.equal(from_file, pictures(pipeline))


def test_it_verifies_and_one_byte_is_found(written, tmp_path):
    """
    What was written holds against its manifest; with one byte flipped it does not.
    """
    output = shutil.copytree(written.paths.root, tmp_path / "copy")
    assert verify.run(output).failures == ()

    weights = output / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-7] ^= 1
    weights.write_bytes(content)

    assert not verify.run(output).ok


def test_undoing_gives_the_base_byte_for_byte(written, tiny, tmp_path):
    """
    `undo` restores every file of the base, and adds none.
    """
    undo.run(written.paths.root, tmp_path / "base")

    assert tree_bytes(tmp_path / "base") == tree_bytes(tiny.path)


def test_the_diff_is_the_manifests_list(written, tiny):
    """
    Exactly the tensors of the manifest differ, and they are keys and values of layers 8 and 9.
    """
    found = compare.run(tiny.path, written.paths.root)

    listed = [tensor.name for tensor in written.manifest.tensors]
    assert sorted(tensor.name for tensor in found.tensors) == sorted(listed)
    assert set(listed) == {n for i in (8, 9) for n in tiny.spec.layers[i].tensor_names()}
    assert found.manifest.matches
    assert found.counts.changed == 4


def test_the_manifest_says_what_was_done(written):
    """
    Recipe, edit, preserve set and figures of every tensor stand in the manifest.
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


def test_report_card_and_recipe_lie_in_the_folder(written):
    """
    A folder carries its recipe verbatim, a report and a model card.
    """
    paths = written.paths

    assert paths.recipe.read_text() == style(8, 9).text
    assert "van gogh" in paths.report.read_text()
    assert paths.card.read_text().startswith("---\n")


def test_edits_of_a_recipe_touch_the_union_of_their_layers(tmp_path, tiny):
    """
    Three edits in the papers' layers, solved together, change six layers and undo to the base.
    """
    recipe = load_recipe(ALL_KINDS, "all.yaml")

    done = edit.run(edit.plan(recipe, EditOptions(tmp_path / "out")), CPU)

    listed = {tensor.name for tensor in done.manifest.tensors}
    assert listed == {n for i in range(4, 10) for n in tiny.spec.layers[i].tensor_names()}
    assert [one.layer_range for one in done.manifest.edits] == [(8, 10), (4, 6), (6, 8)]
    undo.run(tmp_path / "out", tmp_path / "base")
    assert tree_bytes(tmp_path / "base") == tree_bytes(tiny.path)


def test_a_set_of_layers_need_not_touch(tmp_path):
    """
    Layers apart from each other are listed in the manifest, where there is no range.
    """
    heard = RecordingListener()
    options = EditOptions(tmp_path / "out")
    done = edit.run(edit.plan(style(1, 2, 10), options), CPU, heard.events)

    (one,) = done.manifest.edits
    assert one.layer_range is None
    assert one.layers == (1, 2, 10)
    (preview,) = heard.previews
    assert "in layers 1, 2 and 10: " in preview_sentences(preview)[0]
    assert preview.drift == done.manifest.drift


def test_a_single_file_is_edited_as_a_file(tmp_path, tiny_file):
    """
    A file gives a file in the same layout, with manifest and undo file beside it.
    """
    output = tmp_path / "edited.safetensors"

    done = edit.run(edit.plan(style(8, 9, model=str(tiny_file)), EditOptions(output)), CPU)

    assert verify.run(output).ok
    found = compare.run(tiny_file, output)
    assert found.manifest.matches
    assert len(found.tensors) == 4
    assert all(tensor.name.startswith("model.diffusion_model.") for tensor in found.tensors)
    assert sorted(t.name for t in done.manifest.tensors) == [t.name for t in found.tensors]
    undo.run(output, tmp_path / "base.safetensors")
    assert (tmp_path / "base.safetensors").read_bytes() == tiny_file.read_bytes()


def test_file_and_folder_are_solved_alike(written, tmp_path, tiny_file):
    """
    The same edit of the same weights gives the same numbers in both layouts.
    """
    done = edit.run(
        edit.plan(style(8, 9, model=str(tiny_file)), EditOptions(tmp_path / "one")), CPU
    )

    def figures(manifest):
        return [(t.sha256_before, t.sha256_after, t.rank) for t in manifest.tensors]

    assert sorted(figures(done.manifest)) == sorted(figures(written.manifest))


def test_layers_that_nobody_names_are_found(tmp_path):
    """
    With `layer_range: auto` the sweep comes first, and its document is in the manifest.
    """
    recipe = recipe_from_text("van gogh style", sources=("a house by {subject}",))
    quick = recipe.localize.model_copy(update={"width": 15, "seeds": 1, "steps": 1})
    fixed = recipe.edit.model_copy(update={"strength": "fixed"})
    recipe = recipe.model_copy(update={"localize": quick, "edit": fixed})

    done = edit.run(edit.plan(recipe, EditOptions(tmp_path / "out")), CPU)

    (found,) = done.manifest.localizations
    assert found["schema"] == "loco.localization/1"
    assert done.manifest.edits[0].layer_range == tuple(found["layer_range"])
    assert len(done.manifest.tensors) == 30
    assert done.manifest.seconds.localize > 0


def test_an_edited_folder_may_be_edited_again(written, tmp_path):
    """
    An output is a base like any other; the manifest names its parent.
    """
    base = written.paths.root
    recipe = recipe_from_text("snoopy object", to="a dog")
    at = recipe.edit.model_copy(update={"layer_range": None, "layers": (4, 5)})
    recipe = recipe.model_copy(update={"model": str(base), "edit": at})

    done = edit.run(edit.plan(recipe, EditOptions(tmp_path / "twice")), CPU)

    assert done.manifest.base.parent.manifest == written.manifest.digest()
    assert verify.run(tmp_path / "twice").ok
    undo.run(tmp_path / "twice", tmp_path / "once")
    assert tree_bytes(tmp_path / "once") == tree_bytes(base)


def test_the_saved_recipe_says_what_the_command_line_set(tmp_path):
    """
    A recipe saved from words and options gives the same edit when it is read again.
    """
    from loco_cli.cli.request import recipe_of

    recipe = recipe_of("van gogh style", edit_layers=(8,), edit_ridge="0.5x")
    options = EditOptions(tmp_path / "one", save_recipe=tmp_path / "saved.yaml")
    first = edit.run(edit.plan(recipe, options), CPU)

    again = load_recipe((tmp_path / "saved.yaml").read_text(), "saved.yaml")
    second = edit.run(edit.plan(again, EditOptions(tmp_path / "two")), CPU)

    assert second.manifest.edits == first.manifest.edits
    weights = "unet/diffusion_pytorch_model.safetensors"
    tensors = [[t.sha256_after for t in one.manifest.tensors] for one in (first, second)]
    assert tensors[0] == tensors[1]
    assert (tmp_path / "one" / weights).stat().st_size > 0


def test_the_time_can_be_fixed(tmp_path):
    """
    With a fixed time the manifest holds it, so that outputs can repeat.
    """
    options = EditOptions(tmp_path / "out", created="2026-01-01T00:00:00Z")

    done = edit.run(edit.plan(style(8), options), CPU)

    assert done.manifest.created == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("recipe", "error", "message"),
    [
        (style(8, 9, ridge=Ridge(1e12)), EditError, "the edit changes nothing: all of its 4"),
        (recipe_from_text("very " * 90 + "van gogh style"), ConceptError, "is cut off in `very"),
    ],
    ids=["no effect", "cut off"],
)
def test_an_edit_that_fails_leaves_nothing(tmp_path, recipe, error, message):
    """
    An edit without effect and a subject that is cut off are errors, and nothing is written.
    """
    with pytest.raises(error, match=message):
        edit.run(edit.plan(recipe, EditOptions(tmp_path / "out")), CPU)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", ["solving", "writing"])
def test_an_interrupt_leaves_nothing(tmp_path, stage):
    """
    Ctrl-C in any stage of an edit leaves no file behind.
    """

    def interrupt(progress):
        if progress.stage == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        edit.run(
            edit.plan(style(8), EditOptions(tmp_path / "out")),
            CPU,
            RecordingListener(on_progress=interrupt).events,
        )

    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_refused_before_anything_is_read(tmp_path):
    """
    No stage begins where the output is in the way.
    """
    heard = RecordingListener()
    (tmp_path / "out").mkdir()

    with pytest.raises(OutputExists, match=r"out` exists"):
        edit.run(edit.plan(style(8), EditOptions(tmp_path / "out")), CPU, heard.events)

    assert heard.progressed == []
