"""Checks of a request that need no loaded model."""

import shutil

import pytest

from loco_cli.commands import edit
from loco_cli.editing.methods import known_layers
from loco_cli.errors import CheckpointError, OutputExists, RequestError
from loco_cli.evaluating.choice import plan_model_edit
from loco_cli.localizing import locogen
from loco_cli.models.locate import locate
from loco_cli.outputs.guards import check_file, check_folder
from loco_cli.outputs.paths import EditOptions

STYLE = {"kind": "style", "subject": "van gogh"}
OBJECT = {"kind": "object", "subject": "snoopy", "to": "a dog"}


@pytest.mark.parametrize(
    ("settings", "layers"),
    [
        ({"layer_range": "auto"}, None),
        ({"layer_range": [8, 10]}, ((8, 9), (8, 9))),
        ({"layers": [1, 2, 10]}, ((1, 2, 10), (1, 2, 10))),
        ({"layer_range": "published"}, ((8, 9), (4, 5))),
    ],
)
def test_layers_of_each_edit(tiny, recipe_of, settings, layers):
    """
    Layers in the recipe apply to every edit, published layers to edits of their kind.
    """
    assert known_layers(tiny, recipe_of(STYLE, OBJECT, edit=settings)) == layers


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"layer_range": [15, 17]}, "layer 16"),
        ({"layers": [3, 40]}, "layer 40"),
        ({"layer_range": [0, 99999999999]}, "layer 99999999998"),
        ({"method": "neurons", "neurons": 40, "layers": [8, 13]}, "layer 13"),
    ],
)
def test_missing_layers(golden, tiny, recipe_of, settings, name):
    """
    Missing layers and channels are found without reading a tensor.
    """
    with golden.raises(RequestError, name):
        plan_model_edit(tiny, recipe_of(edit=settings))


def test_no_published_layers(golden, recipe_of):
    """
    `layer_range: published` is refused for a model without published layers.
    """
    with golden.raises(RequestError, "tiny-plain"):
        plan_model_edit(locate("tiny-plain"), recipe_of(edit={"layer_range": "published"}))


def test_destinations_of_an_edit(golden, recipe_of, here):
    """
    The plan of an edit checks output, form and saved recipe, and writes nothing.
    """
    recipe = recipe_of(edit={"layers": [8]})
    saved = here / "r.yaml"
    saved.write_text("")

    edit.plan(recipe, EditOptions(here / "out"))
    edit.plan(recipe, EditOptions(here / "out.safetensors", form="lora"))
    with golden.raises(OutputExists, "r.yaml"):
        edit.plan(recipe, EditOptions(here / "out", save_recipe=saved))
    assert [path.name for path in here.iterdir()] == ["r.yaml"]


@pytest.mark.parametrize(
    ("form", "saved"),
    [
        ("checkpoint", "out/r.yaml"),
        ("checkpoint", "out"),
        ("checkpoint", "out/../out/deep/r.yaml"),
        ("lora", "out.safetensors"),
        ("lora", "out.loco.yaml"),
    ],
)
def test_saved_recipe_inside_the_output(golden, recipe_of, tmp_path, form, saved):
    """
    A recipe cannot be saved where the output goes.
    """
    options = EditOptions(tmp_path / "out", force=True, form=form, save_recipe=tmp_path / saved)

    with golden.raises(RequestError, saved):
        edit.plan(recipe_of(edit={"layers": [8]}), options)


@pytest.mark.parametrize("saved", ["base/unet/r.yaml", "base/unet/w.safetensors", "w.safetensors"])
def test_saved_recipe_inside_the_base(golden, recipe_of, tiny, tmp_path, saved):
    """
    A recipe cannot be saved in the base, or over a file that a link of the base leads to.
    """
    shutil.copytree(tiny.path, tmp_path / "base")
    (weights,) = (tmp_path / "base/unet").glob("*.safetensors")
    weights.rename(tmp_path / "w.safetensors")
    (tmp_path / "base/unet/w.safetensors").symlink_to(tmp_path / "w.safetensors")
    recipe = recipe_of(edit={"layers": [8]}, model=str(tmp_path / "base"))

    for force in (False, True):
        options = EditOptions(tmp_path / "out", force=force, save_recipe=tmp_path / saved)
        with golden.raises(OutputExists, "--save-recipe"):
            edit.plan(recipe, options)


def test_model_without_images(golden, recipe_of, tiny, tmp_path):
    """
    A UNet without encoder and VAE cannot be localized, since it makes no images.
    """
    shutil.copytree(tiny.path / "unet", tmp_path / "unet")

    with golden.raises(CheckpointError, "text_encoder", "vae", "--layers"):
        locogen.check(locate(str(tmp_path / "unet")), recipe_of(edit={"layers": [8]}))


def test_existing_results(golden, tiny, tmp_path):
    """
    A folder of results may exist unless it has a file with the name of a result.
    """
    (tmp_path / "notes.txt").write_text("")
    check_folder(tmp_path, ("a.json",), tiny.checkpoint, force=False)
    check_folder(tmp_path / "new", ("a.json",), tiny.checkpoint, force=False)
    (tmp_path / "a.json").write_text("")

    with golden.raises(OutputExists, "a.json"):
        check_folder(tmp_path, ("a.json",), tiny.checkpoint, force=False)
    check_folder(tmp_path, ("a.json",), tiny.checkpoint, force=True)
    with golden.raises(OutputExists, "notes.txt"):
        check_folder(tmp_path / "notes.txt", ("a.json",), tiny.checkpoint, force=True)


def test_dangling_link(golden, tiny, tmp_path):
    """
    A dangling link counts as an existing file, and is not written through.
    """
    (tmp_path / "a.png").symlink_to(tmp_path / "nowhere")

    with golden.raises(OutputExists, "a.png"):
        check_file(tmp_path / "a.png", tiny.checkpoint, force=False)


@pytest.mark.parametrize(
    ("path", "error_class", "name"),
    [
        ("there", OutputExists, "there"),
        ("file/x.png", RequestError, "file"),
        ("no/x.png", RequestError, "no"),
    ],
)
def test_file_without_a_folder(golden, tiny, tmp_path, path, error_class, name):
    """
    An output file must not be a folder, and its parent must be one.
    """
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("")

    with golden.raises(error_class, str(tmp_path / name)):
        check_file(tmp_path / path, tiny.checkpoint, force=True)


def test_linked_folder_of_the_base(golden, tiny, tmp_path):
    """
    A folder that the base links to belongs to the base, under either of its names.
    """
    shutil.copytree(tiny.path, tmp_path / "base")
    (tmp_path / "base/unet").rename(tmp_path / "elsewhere")
    (tmp_path / "base/unet").symlink_to(tmp_path / "elsewhere")
    base = locate(str(tmp_path / "base")).checkpoint

    for place in ("base/unet/r.yaml", "elsewhere/r.yaml"):
        with golden.raises(OutputExists, place):
            check_file(tmp_path / place, base, force=True)
    check_file(tmp_path / "r.yaml", base, force=True)
