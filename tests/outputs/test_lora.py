"""An edit as a LoRA: its equality with the edited checkpoint, its manifest and its use."""

import hashlib
import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from loco_cli.checkpoint.layout import open_checkpoint
from loco_cli.checkpoint.lora import LowRank, lora_tensors, open_lora, write_lora
from loco_cli.checkpoint.reader import read_tensor, tensor_bytes
from loco_cli.commands import edit, evaluate, undo, verify
from loco_cli.commands.evaluate import EvaluateOptions
from loco_cli.errors import CheckpointError, ConceptError, EditError, OutputExists, RequestError
from loco_cli.evaluating.judge import EvaluationPlan
from loco_cli.families import registry
from loco_cli.models.session import RunOptions
from loco_cli.outputs.paths import EditOptions
from loco_cli.recipe.load import load_recipe, recipe_from_text
from loco_cli.recipe.values import Ridge
from loco_cli.sampling.weights import apply_lora
from tests.checkpoints import tree_bytes
from tests.families.layouts import write_folder
from tests.families.pictures import load_folder
from tests.families.small import small_model
from tests.listeners import RecordingListener

CPU = RunOptions(device="cpu")
TWO_EDITS = """
loco: 1
title: A style and an object
edits:
  - {kind: style, subject: van gogh}
  - {kind: object, subject: snoopy, to: a dog}
edit: {layer_range: published, tokens: last-subject}
"""
# layers at both ends and in the middle, where the models have their widths
LAYERS = {"sd15": (0, 6, 15), "sd21": (0, 6, 15), "sdxl": (0, 24, 69), "deepfloyd": (0, 9, 21)}


def style(*layers, model="tiny", **settings):
    recipe = recipe_from_text("van gogh style")
    found = recipe.edit.model_copy(update={"layer_range": None, "layers": layers, **settings})
    return recipe.model_copy(update={"model": str(model), "edit": found})


def write(recipe, output, form="lora", **options):
    return edit.run(edit.plan(recipe, EditOptions(output, form=form, **options)), CPU)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A LoRA that removes `van gogh` from layers 8 and 9 of `tiny`; tests only read it."""
    return write(style(8, 9), tmp_path_factory.mktemp("lora") / "no-van-gogh")


@pytest.mark.filterwarnings("ignore:.*")  # diffusers and peft warn of unused keys
@pytest.mark.parametrize("name", ["sd15", "sd21", "sdxl", "deepfloyd"])
def test_base_and_lora_are_the_edited_checkpoint(name, tmp_path):
    """
    In diffusers, base plus LoRA equals the edited checkpoint up to the rounding of float16.
    """
    model = small_model(name)
    base = write_folder(tmp_path / "base", model, torch.float16)
    recipe = style(*LAYERS[name], model=base)
    lora = write(recipe, tmp_path / "lora").paths.root
    edited = write(recipe, tmp_path / "edited", "checkpoint")

    pipe = load_folder(base, model)
    pipe.load_lora_weights(lora)
    pipe.fuse_lora(components=["unet"])
    pipe.unload_lora_weights()

    moved = {tensor.name for tensor in edited.manifest.tensors}
    assert len(moved) == 2 * len(LAYERS[name])
    wanted = load_folder(edited.paths.root, model).unet.state_dict()
    for key, value in pipe.unet.state_dict().items():
        if key in moved:
            assert within_half_a_step(value, wanted[key]), key
        else:
            assert torch.equal(value, wanted[key]), key


def test_refuses_a_base_that_changes_during_the_edit(tiny, tmp_path, golden):
    """
    A base file that changes after it was hashed is refused, as its manifest would be wrong.
    """
    base = shutil.copytree(tiny.path, tmp_path / "base")

    def change(_):
        (base / "model_index.json").write_text("{}")

    plan = edit.plan(style(8, model=base), EditOptions(tmp_path / "out", form="lora"))
    with golden.raises(CheckpointError, "model_index.json"):
        edit.run(plan, CPU, RecordingListener(on_preview=change).events)

    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def within_half_a_step(exact, stored):
    """Return True if `stored` is `exact` rounded to float16; float32 itself has errors of 1e-8."""
    _, exponents = torch.frexp(stored.abs().clamp(min=2.0**-14))
    half_a_step = torch.ldexp(torch.ones_like(stored), exponents - 12)
    return bool(((exact - stored).abs() <= half_a_step + 1e-7).all())


def tensor_bytes_of(path):
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()}


def test_other_layouts_of_a_base_give_the_same_lora(written, tiny, tiny_file, tmp_path):
    """
    A single file, and a UNet with nine input channels instead of four, give the same LoRA.
    """
    base = shutil.copytree(tiny.path, tmp_path / "inpainting")
    (weights,) = (base / "unet").glob("*.safetensors")
    tensors = load_file(weights)
    first = tensors["conv_in.weight"]
    tensors["conv_in.weight"] = torch.cat((first, torch.zeros_like(first), first[:, :1]), dim=1)
    save_file(tensors, weights, {"format": "pt"})

    for model in (base, tiny_file):
        found = write(style(8, 9, model=model), tmp_path / f"lora-{model.stem}")
        assert tensor_bytes_of(found.paths.root) == tensor_bytes_of(written.paths.root)


def test_several_edits_share_one_rank(tmp_path, tiny):
    """
    Edits of different layers and ranks share one padded file, which stays exact.
    """
    done = write(load_recipe(TWO_EDITS, "two.yaml"), tmp_path / "lora")

    ranks = {tensor.rank for tensor in done.manifest.tensors}
    metadata, tensors = safe_open(done.paths.root, "pt").metadata(), load_file(done.paths.root)
    dims = {t.shape[0] for name, t in tensors.items() if "lora_down" in name}
    assert len(ranks) > 1
    assert dims == {max(ranks)} == {t.item() for n, t in tensors.items() if n.endswith(".alpha")}
    assert metadata["ss_network_dim"] == metadata["ss_network_alpha"] == str(max(ranks))
    names = {part.name for part in open_lora(done.paths.root, tiny.checkpoint).parts}
    assert names == {n for i in (4, 5, 8, 9) for n in tiny.spec.layers[i].tensor_names()}
    assert names == {tensor.name for tensor in done.manifest.tensors}


def test_the_manifest_lists_the_changed_tensors(written, tiny):
    """
    The hashes are those of the base, and of base plus LoRA rounded once.
    """
    manifest = written.manifest
    parts = {part.name: part for part in open_lora(written.paths.root, tiny.checkpoint).parts}

    assert manifest.output.kind == "lora"
    assert {tensor.name for tensor in manifest.tensors} == set(parts)
    for tensor in manifest.tensors:
        (slot,) = tiny.checkpoint.slots("unet", tensor.name)
        weight = read_tensor(slot)
        merged = weight.double() + parts[tensor.name].read()
        assert tensor.sha256_before == hashlib.sha256(weight.numpy().tobytes()).hexdigest()
        assert tensor.sha256_after == hashlib.sha256(tensor_bytes(merged, slot)).hexdigest()
        assert tensor.rounding_error < 1e-7
    listed = {file.path: file.sha256 for file in manifest.base.files}
    for path, content in tree_bytes(tiny.path).items():
        assert listed.pop(path) == hashlib.sha256(content).hexdigest()
    assert listed == {}


def test_writes_three_files(written, golden):
    """
    The output is the LoRA, its manifest and its recipe, without an undo file.
    """
    root = written.paths.root

    names = {path.name for path in root.parent.iterdir()}
    assert names == {"no-van-gogh.safetensors", "no-van-gogh.loco.json", "no-van-gogh.loco.yaml"}
    assert json.loads(written.paths.manifest.read_text()) == written.manifest.to_json()
    assert written.paths.recipe.read_text() == style(8, 9).text
    with pytest.raises(RequestError, match=root.name) as caught:
        undo.run(root)
    golden(caught.value.message.replace(str(root.parent), "<lora>"))


def test_verify_finds_a_changed_byte(written, tmp_path):
    """
    A LoRA passes verification by hash and stamp, and fails it with one changed byte.
    """
    folder = shutil.copytree(written.paths.root.parent, tmp_path / "moved")
    output = folder / written.paths.root.name
    assert verify.run(output).failures == ()

    content = bytearray(output.read_bytes())
    content[-7] ^= 1
    output.write_bytes(content)

    assert not verify.run(output).ok


def test_the_header_names_the_origin(written, tiny_file, tmp_path):
    """
    The header has name, title, base and stamp, and the hash of a base that is a single file.
    """
    done = write(style(8, model=tiny_file), tmp_path / "out", stamp=False)

    files = (written.paths.root, done.paths.root)
    stamped, unstamped = (safe_open(path, "pt").metadata() for path in files)
    assert (stamped["ss_output_name"], stamped["ss_sd_model_name"]) == ("no-van-gogh", "tiny")
    assert stamped["modelspec.title"] == "van gogh to painting"
    assert stamped["loco.manifest"] == written.manifest.digest()
    assert unstamped["ss_sd_model_name"] == "one.safetensors"
    sha256 = hashlib.sha256(tiny_file.read_bytes()).hexdigest()
    assert unstamped["ss_new_sd_model_hash"] == sha256
    assert not [key for key in unstamped if key.startswith("loco.")]
    assert verify.run(done.paths.root).ok


def test_the_most_precise_variant_gives_the_lora(tmp_path):
    """
    One LoRA serves every variant of a folder, and the manifest lists all of their tensors.
    """
    model = small_model("sd15")
    both = write_folder(tmp_path / "both", model, torch.float16, torch.float32)
    plain = write_folder(tmp_path / "plain", model, torch.float32)

    of_both = write(style(8, model=both, tokens="last-subject"), tmp_path / "a")
    of_plain = write(style(8, model=plain, tokens="last-subject"), tmp_path / "b")

    assert sorted(t.dtype for t in of_both.manifest.tensors) == ["F16", "F16", "F32", "F32"]
    a, b = (tensor_bytes_of(one.paths.root) for one in (of_both, of_plain))
    assert a == b


def test_a_lora_replaces_an_edited_file(tmp_path, tiny_file, golden):
    """
    `--force` also removes the files of the old output that the new one lacks.
    """
    write(style(8, model=tiny_file), tmp_path / "out", "checkpoint")
    with golden.raises(OutputExists, "out.safetensors"):
        write(style(8, model=tiny_file), tmp_path / "out")

    done = write(style(8, model=tiny_file), tmp_path / "out", force=True)

    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"out.safetensors", "out.loco.json", "out.loco.yaml"}
    assert verify.run(done.paths.root).ok


@pytest.mark.parametrize(
    ("recipe", "error", "name"),
    [
        (style(8, 9, ridge=Ridge(1e12)), EditError, "--ridge"),
        (recipe_from_text("very " * 90 + "van gogh style"), ConceptError, "very"),
    ],
    ids=["no effect", "cut off"],
)
def test_a_failed_lora_leaves_no_files(tmp_path, recipe, error, name, golden):
    """
    An edit without effect, and a subject that is cut off, are errors that write no files.
    """
    with golden.raises(error, name):
        write(recipe, tmp_path / "out", save_recipe=tmp_path / "saved.yaml")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["lora", "checkpoint"])
@pytest.mark.parametrize("stage", ["solving", "writing"])
def test_an_interrupt_leaves_no_files(tmp_path, stage, form):
    """
    Ctrl-C leaves neither an output nor the saved recipe.
    """

    def interrupt(progress):
        if progress.stage == stage:
            raise KeyboardInterrupt

    options = EditOptions(tmp_path / "out", form=form, save_recipe=tmp_path / "saved.yaml")
    with pytest.raises(KeyboardInterrupt):
        edit.run(edit.plan(style(8), options), CPU, RecordingListener(on_progress=interrupt).events)

    assert list(tmp_path.iterdir()) == []


def test_a_loaded_model_applies_and_removes_a_lora(pipeline, tiny, tmp_path):
    """
    Inside the block the weights are base plus LoRA, and after it those of the base.
    """
    modules = (
        ("unet", tiny.spec.layers[8].tensor_names()[0].removesuffix(".weight")),
        ("text_encoder", "text_model.encoder.layers.0.self_attn.out_proj"),
    )
    changes = [
        LowRank(part, module, torch.ones(size[0], 1), torch.ones(1, size[1]))
        for part, module in modules
        for size in [tiny.checkpoint.slots(part, f"{module}.weight")[0].shape]
    ]
    path = tmp_path / "lora.safetensors"
    with path.open("wb") as file:
        write_lora(file, lora_tensors(registry.family("sd1").lora, changes), {})
    lora = open_lora(path, open_checkpoint(tiny.path))
    weight = pipeline.pipe.unet.get_parameter(f"{modules[0][1]}.weight")
    before, read = weight.detach().clone(), pipeline.prompt_encoder.encode("a cat").states

    with apply_lora(pipeline, lora.parts) as adapted:
        assert torch.equal(weight, before + 1)
        assert not torch.equal(adapted.prompt_encoder.encode("a cat").states, read)

    assert torch.equal(weight, before)
    assert torch.equal(
        type(pipeline.prompt_encoder)(pipeline.pipe, tiny.spec).encode("a cat").states, read
    )


def test_a_lora_is_evaluated_on_its_base(written, tiny):
    """
    `--edited` takes a LoRA: before is the base, after the base with it.
    """
    recipe = style(8, 9)
    quick = recipe.evaluate.model_copy(update={"seeds": 1, "steps": 1})
    recipe = recipe.model_copy(update={"evaluate": quick})
    plan = evaluate.plan(recipe, EvaluateOptions(edited=str(written.paths.root)))

    found = evaluate.run(plan, CPU).evaluation

    n_runs = len(EvaluationPlan.of(tiny.spec, recipe).runs)
    assert plan.document().pictures.n_pictures == 2 * n_runs
    assert plan.document().edits == ()
    assert any(row.before != row.after for row in found.forget)


def test_refuses_to_evaluate_a_lora_of_another_base(written, tmp_path, golden):
    """
    The hashes in its manifest rule out another base with the same shapes.
    """
    other = write(style(9), tmp_path / "other", "checkpoint").paths.root
    lora, alone = written.paths.root, tmp_path / "alone.safetensors"
    shutil.copy(lora, alone)

    with pytest.raises(RequestError, match="up_blocks") as caught:
        evaluate.plan(style(8, 9, model=other), EvaluateOptions(edited=str(lora))).document()

    golden(caught.value.message.replace(str(lora.parent), "<lora>"))
    evaluate.plan(style(8, 9, model=other), EvaluateOptions(edited=str(alone))).document()
