"""
The test of the door: a family that nobody has heard of is one file, and lines elsewhere are none.

The file is `made_up/striped.py`; the models of it are built here. It takes part by standing in a
folder of the package, as a new file of `loco_cli/families` would.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from loco_cli import families
from loco_cli.checkpoint.layout import open_checkpoint
from loco_cli.cli.app import app
from loco_cli.editing.methods import check_edit
from loco_cli.errors import CheckpointError, RequestError
from loco_cli.families import registry
from loco_cli.families.spec import TextInput
from loco_cli.models.encoders import encoder_of
from loco_cli.models.locate import locate
from loco_cli.recipe.load import load_recipe
from tests.checkpoints import tree_bytes
from tests.families.in_memory import published_form
from tests.families.layouts import F16, write_folder
from tests.families.small import SmallModel, small_model
from tests.families.test_matrix import RECIPE

WIDTHS = (8, 16)
D_TEXT = 64
BLOCKS = {
    "down_blocks.0": 8,
    "down_blocks.1": 16,
    "mid_block": 16,
    "up_blocks.0": 16,
    "up_blocks.1": 8,
}
EDITED = ("down_blocks.1", "mid_block")  # layers 1 and 2
PLANNED = {f"{block}.attentions.0.attn2.to_{letter}.weight" for block in EDITED for letter in "kvg"}


@pytest.fixture
def striped():
    """The made-up family, registered from a second folder of the package."""
    folder = str(Path(__file__).parent / "made_up")
    families.__path__.append(folder)
    yield registry.family("striped")
    families.__path__.remove(folder)


@pytest.fixture
def model():
    """A small striped model: its UNet, and the encoder and tokenizer of a small SD 1.5."""
    torch.manual_seed(0)
    unet = {"conv_in.weight": torch.randn(8, 4, 3, 3), "conv_out.weight": torch.randn(4, 8, 3, 3)}
    for block, d in BLOCKS.items():
        attention = f"{block}.attentions.0.attn2"
        unet[f"{block}.resnets.0.conv1.weight"] = torch.randn(d, d, 3, 3)
        unet[f"{attention}.to_q.weight"] = torch.randn(d, d)
        unet |= {
            f"{attention}.to_{letter}.weight": torch.randn(share * d, D_TEXT)
            for letter, share in (("k", 1), ("v", 1), ("g", 2))
        }
    other = small_model("sd15")
    parts = ("text_encoder/", "tokenizer/")
    configs = {path: one for path, one in other.configs.items() if path.startswith(parts)}
    configs |= {"model_index.json": {"_class_name": "StripedPipeline"}}
    tensors = {"unet": unet, "text_encoder": other.tensors["text_encoder"]}
    return SmallModel("striped-one", "striped", tensors, configs)


@pytest.fixture
def paths(striped, model, tmp_path):
    """A folder, a single file and a recipe."""
    folder = write_folder(tmp_path / "folder", model, F16)
    file, recipe = tmp_path / "one.safetensors", tmp_path / "recipe.yaml"
    save_file({name: value.to(F16) for name, value in in_one_file(model).items()}, file)
    recipe.write_text(json.dumps(RECIPE))
    return folder, file, recipe


def in_one_file(model):
    """Return the tensors of a single file, with the family's own names."""
    tensors = {
        f"words.{name.removeprefix('text_model.')}": value
        for name, value in model.tensors["text_encoder"].items()
        if value.is_floating_point()
    }
    left = dict(model.tensors["unet"])
    for n, block in enumerate(BLOCKS):
        attention = f"{block}.attentions.0.attn2"
        parts = [left.pop(f"{attention}.to_{letter}.weight") for letter in "kvg"]
        tensors[f"stripe.{n}.read.kvg.weight"] = torch.cat(parts)
        for name in [name for name in left if name.startswith(f"{block}.")]:
            tensors[f"stripe.{n}{name.removeprefix(block)}"] = left.pop(name)
    return tensors | {f"paint.{name}": value for name, value in left.items()}


def loco(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.stderr
    return done.stdout


def edited(recipe, base, output, *options):
    loco("edit", recipe, "--model", base, "--output", output, "--layer-range", 1, 3, *options)
    return output


def test_it_is_known_by_its_tensors(paths, striped, model, tmp_path):
    """A folder, a single file and a UNet file are all recognised as the new family."""
    folder, file, _ = paths
    alone = tmp_path / "unet.safetensors"
    save_file(model.tensors["unet"], alone)

    for path in (folder, file, alone):
        checkpoint = open_checkpoint(path)
        assert (checkpoint.family, checkpoint.d_text) == (striped, D_TEXT)
        assert set(checkpoint.names("unet")) == set(model.tensors["unet"])


def test_without_its_file_it_is_refused(model, tmp_path, golden):
    """Without the family's module, its checkpoints have an unknown architecture."""
    folder = write_folder(tmp_path / "folder", model, F16)

    with golden.raises(CheckpointError, "5 cross-attention layers"):
        open_checkpoint(folder)


def test_a_folder_is_edited_verified_and_undone(paths, tmp_path):
    """All three projections of the edited layers change, and undoing restores the base."""
    folder, _, recipe = paths

    output = edited(recipe, folder, tmp_path / "edited")

    name = "unet/diffusion_pytorch_model.safetensors"
    before, after = load_file(folder / name), load_file(output / name)
    assert {one for one in before if not torch.equal(before[one], after[one])} == PLANNED
    loco("verify", output)
    loco("undo", output, "--output", tmp_path / "undone")
    assert tree_bytes(tmp_path / "undone") == tree_bytes(folder)


def test_a_single_file_becomes_what_the_folder_becomes(paths, tmp_path):
    """Rows of a fused tensor get the same edit as the tensors of a folder."""
    folder, file, recipe = paths

    one = edited(recipe, file, tmp_path / "edited.safetensors")
    other = edited(recipe, folder, tmp_path / "edited")

    fused = load_file(one)
    apart = load_file(other / "unet" / "diffusion_pytorch_model.safetensors")
    for n, block in enumerate(BLOCKS):
        parts = [apart[f"{block}.attentions.0.attn2.to_{letter}.weight"] for letter in "kvg"]
        assert torch.equal(fused[f"stripe.{n}.read.kvg.weight"], torch.cat(parts))
    loco("verify", one)
    loco("undo", one, "--output", tmp_path / "undone.safetensors")
    assert (tmp_path / "undone.safetensors").read_bytes() == file.read_bytes()


def test_the_edit_is_the_published_one(paths, tmp_path):
    """Every projection gets the closed-form edit of the paper."""
    folder, _, recipe = paths
    output = edited(recipe, folder, tmp_path / "edited")
    before, after = locate(str(folder)), locate(str(output))
    (entry,) = RECIPE["edits"]
    prompts = [
        text.format(subject=entry["subject"], to=entry["to"])
        for side in ("source", "target")
        for text in entry[side]
    ]

    encoded = encoder_of(before).encode(prompts)

    keys, targets = torch.stack([one.states[one.end - 1] for one in encoded]).double().chunk(2)
    old = load_file(before.path / "unet" / "diffusion_pytorch_model.safetensors")
    new = load_file(after.path / "unet" / "diffusion_pytorch_model.safetensors")
    for name in PLANNED:
        weight = old[name].double()
        wanted = published_form(weight, keys, targets @ weight.T) - weight
        made = new[name].double() - weight
        assert (made - wanted).norm() < 1e-2 * wanted.norm()


def test_it_becomes_a_lora_in_its_own_names(paths, tmp_path):
    """A LoRA has the names of the family's record and the effect of the edit."""
    folder, _, recipe = paths

    lora = edited(recipe, folder, tmp_path / "no.safetensors", "--as", "lora")
    whole = edited(recipe, folder, tmp_path / "edited")

    loco("verify", lora)
    tensors = load_file(lora)
    base = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    goal = load_file(whole / "unet" / "diffusion_pytorch_model.safetensors")
    stems = {
        f"lora_unet_{name.removesuffix('.weight')}".replace(".", "_"): name for name in PLANNED
    }
    assert {name.partition(".")[0] for name in tensors} == set(stems)
    for stem, name in stems.items():
        change = tensors[f"{stem}.lora_up.weight"] @ tensors[f"{stem}.lora_down.weight"]
        moved = goal[name].float() - base[name].float()
        assert (change - moved).norm() < 1e-2 * moved.norm()


def test_keys_of_a_run_are_not_edited(paths, golden):
    """A layer whose keys depend on the picture has no closed-form edit."""
    folder, _, recipe = paths
    located = locate(str(folder))
    text = TextInput("picture", "text", order="text first", has_tuple_output=True)
    layers = tuple(replace(layer, text=text) for layer in located.spec.layers)
    context = replace(located.spec.context, kind="sampled")
    edits = load_recipe(recipe.read_text(), "recipe.yaml")

    for changes in ({"layers": layers}, {"context": context}):
        with golden.raises(RequestError, "`folder`"):
            check_edit(replace(located, spec=replace(located.spec, **changes)), edits)


def test_the_list_of_models_has_it(paths):
    """`models list` ends with the new model, and `models show` prints its layers."""
    folder, _, _ = paths

    names = [one["name"] for one in json.loads(loco("models", "list", "--json"))["models"]]
    known = json.loads(loco("models", "show", "striped-one", "--json"))
    own = json.loads(loco("models", "show", folder, "--json"))

    assert names[-1] == "striped-one"
    assert (known["family"], known["projections"]) == ("striped", ["to_k", "to_v", "to_g"])
    assert [row["width"] for row in own["layers"]] == list(BLOCKS.values())
    assert [row["block"] for row in own["layers"]] == ["IN01", "IN04", "M00", "OUT00", "OUT03"]
