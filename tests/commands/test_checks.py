"""What must hold before any model is loaded."""

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
from loco_cli.recipe.load import load_recipe

STYLE = "{kind: style, subject: van gogh}"
OBJECT = "{kind: object, subject: snoopy, to: a dog}"


def recipe_of(edit, edits=STYLE, preserve="auto"):
    return load_recipe(f"loco: 1\nedits: [{edits}]\nedit: {edit}\npreserve: {preserve}\n", "r.yaml")


@pytest.mark.parametrize(
    ("edit", "layers"),
    [
        ("{layer_range: auto}", None),
        ("{layer_range: [8, 10]}", ((8, 9), (8, 9))),
        ("{layers: [1, 2, 10]}", ((1, 2, 10), (1, 2, 10))),
        ("{layer_range: published}", ((8, 9), (4, 5))),
    ],
)
def test_layers_are_named_for_each_edit(tiny, edit, layers):
    """
    Layers of the recipe are those of every edit, the papers' are those of its kind.
    """
    assert known_layers(tiny, recipe_of(edit, f"{STYLE}, {OBJECT}")) == layers


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("{layer_range: [15, 17]}", "layer 16 does not exist: `tiny` has layers 0 to 15"),
        ("{layers: [3, 40]}", "layer 40 does not exist"),
        ("{layer_range: [0, 99999999999]}", "layer 99999999998 does not exist"),
        ("{method: neurons, neurons: 40, layers: [8, 13]}", "layer 13 of `tiny` has 32 in each"),
    ],
)
def test_what_cannot_be_solved_is_refused(tiny, edit, message):
    """
    Layers that are not there, and methods, are found without reading a tensor.
    """
    with pytest.raises(RequestError, match=message):
        plan_model_edit(tiny, recipe_of(edit))


def test_published_layers_have_to_be_published():
    """
    A model without published layers says so.
    """
    from loco_cli.models.locate import locate

    with pytest.raises(RequestError, match="the papers name no layers for kind `style` in"):
        plan_model_edit(locate("tiny-plain"), recipe_of("{layer_range: published}"))


def test_an_edit_is_checked_to_the_last_file(tiny, tmp_path):
    """
    Output, form and the recipe to save are held before anything is done.
    """
    recipe = recipe_of("{layers: [8]}")
    (tmp_path / "r.yaml").write_text("")

    edit.plan(recipe, EditOptions(tmp_path / "out"))
    edit.plan(recipe, EditOptions(tmp_path / "out.safetensors", form="lora"))
    with pytest.raises(OutputExists, match=r"r.yaml` exists"):
        edit.plan(recipe, EditOptions(tmp_path / "out", save_recipe=tmp_path / "r.yaml"))
    assert [path.name for path in tmp_path.iterdir()] == ["r.yaml"]


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
def test_a_recipe_is_saved_apart_from_the_output(tiny, tmp_path, form, saved):
    """
    What would be replaced by the output, or make it hold a file that is not its own, is refused.
    """
    options = EditOptions(tmp_path / "out", force=True, form=form, save_recipe=tmp_path / saved)

    with pytest.raises(RequestError, match="lies in the output") as caught:
        edit.plan(recipe_of("{layers: [8]}"), options)
    assert "loco" in caught.value.hint


def test_what_makes_no_pictures_is_not_localized(tiny, tmp_path):
    """
    A UNet alone is refused before anything is loaded, with what it lacks and the way out.
    """
    shutil.copytree(tiny.path / "unet", tmp_path / "unet")

    with pytest.raises(
        CheckpointError, match=r"has no text_encoder and no vae, so it cannot"
    ) as no:
        locogen.check(locate(str(tmp_path / "unet")), recipe_of("{layers: [8]}"))
    assert no.value.hint == "give the whole checkpoint; `loco edit` with `--layers` needs no images"


def test_a_folder_for_results_may_exist(tiny, tmp_path):
    """
    A folder is refused for a file that is in the way, not for being there.
    """
    (tmp_path / "notes.txt").write_text("")
    check_folder(tmp_path, ("a.json",), tiny.checkpoint, force=False)
    check_folder(tmp_path / "new", ("a.json",), tiny.checkpoint, force=False)
    (tmp_path / "a.json").write_text("")

    with pytest.raises(OutputExists, match=r"a.json` exists"):
        check_folder(tmp_path, ("a.json",), tiny.checkpoint, force=False)
    check_folder(tmp_path, ("a.json",), tiny.checkpoint, force=True)


def test_a_link_that_leads_nowhere_is_in_the_way(tiny, tmp_path):
    """
    A dangling link is something that exists, and is not written through.
    """
    (tmp_path / "a.png").symlink_to(tmp_path / "nowhere")

    with pytest.raises(OutputExists, match=r"a.png` exists"):
        check_file(tmp_path / "a.png", tiny.checkpoint, force=False)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("there", OutputExists, "`.*there` is a folder, not a file"),
        ("file/x.png", RequestError, "there is no folder `.*file` to write into"),
        ("no/x.png", RequestError, "there is no folder `.*no` to write into"),
    ],
)
def test_a_file_needs_a_folder(tiny, tmp_path, name, error, message):
    """
    What cannot be written says what is in the way.
    """
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("")

    with pytest.raises(error, match=message):
        check_file(tmp_path / name, tiny.checkpoint, force=True)


def test_a_file_is_no_folder_for_results(tiny, tmp_path):
    """
    Results go into a folder, whatever `force` says.
    """
    (tmp_path / "file").write_text("")

    with pytest.raises(OutputExists, match="is a file, the output is a folder"):
        check_folder(tmp_path / "file", ("a.json",), tiny.checkpoint, force=True)


@pytest.mark.parametrize("saved", ["base/unet/r.yaml", "base/unet/w.safetensors", "w.safetensors"])
@pytest.mark.parametrize("force", [False, True])
def test_a_recipe_is_saved_apart_from_the_base(tiny, tmp_path, saved, force):
    """
    Neither in the base nor in place of a file that a link in it leads to, whatever is forced.
    """
    shutil.copytree(tiny.path, tmp_path / "base")
    (weights,) = (tmp_path / "base/unet").glob("*.safetensors")
    weights.rename(tmp_path / "w.safetensors")
    (tmp_path / "base/unet/w.safetensors").symlink_to(tmp_path / "w.safetensors")
    recipe = recipe_of("{layers: [8]}").model_copy(update={"model": str(tmp_path / "base")})
    options = EditOptions(tmp_path / "out", force=force, save_recipe=tmp_path / saved)

    with pytest.raises(OutputExists, match=r"the recipe `.*which is only read") as caught:
        edit.plan(recipe, options)
    assert caught.value.hint == "choose another `--save-recipe`"


def test_a_linked_folder_belongs_to_the_base(tiny, tmp_path):
    """
    What lies in a folder that the base links to lies inside of the base, by either name.
    """
    shutil.copytree(tiny.path, tmp_path / "base")
    (tmp_path / "base/unet").rename(tmp_path / "elsewhere")
    (tmp_path / "base/unet").symlink_to(tmp_path / "elsewhere")
    base = locate(str(tmp_path / "base")).checkpoint

    for place in ("base/unet/r.yaml", "elsewhere/r.yaml"):
        with pytest.raises(OutputExists, match="is inside"):
            check_file(tmp_path / place, base, force=True)
    check_file(tmp_path / "r.yaml", base, force=True)
