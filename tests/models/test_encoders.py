"""The text encoders of a checkpoint, in every family and layout."""

import json
import shutil
import subprocess
import sys
from functools import cache

import pytest
import torch
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
)

from loco_cli.errors import CheckpointError, EditError
from loco_cli.models.encoders import encoder_of
from loco_cli.models.locate import locate
from tests.families.layouts import write_folder
from tests.families.original import original_tensors, write_file
from tests.families.small import small_model

FAMILIES = ("sd15", "sd21", "sdxl", "deepfloyd")
PROMPTS = ("a house in the style of van gogh", "a cat", "")
KINDS = {
    "CLIPTextModel": (CLIPTextConfig, CLIPTextModel),
    "CLIPTextModelWithProjection": (CLIPTextConfig, CLIPTextModelWithProjection),
    "T5EncoderModel": (T5Config, T5EncoderModel),
}


@pytest.fixture(scope="module", params=FAMILIES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def folder(name, tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("folder"), small_model(name), torch.float32)


@pytest.fixture
def sd15(tmp_path):
    return write_folder(tmp_path / "sd15", small_model("sd15"), torch.float32)


def states_of(path, prompts=PROMPTS, **options):
    return [one.states for one in encoder_of(locate(str(path))).encode(prompts, **options)]


@cache
@torch.no_grad()
def expected_states(name, path):
    """Return the text embeddings that modules of transformers compute."""
    model = small_model(name)
    tokenizers = [part.tokenizer for part in encoder_of(locate(str(path))).parts]
    components = ("text_encoder", "text_encoder_2")[: len(tokenizers)]
    states = []
    for component, tokenizer in zip(components, tokenizers, strict=True):
        config = model.configs[f"{component}/config.json"]
        kind, build = KINDS[config["architectures"][0]]
        module = build(kind(**config)).eval()
        is_bare = build is CLIPTextModel
        tensors = {
            name.removeprefix("text_model.") if is_bare else name: value
            for name, value in model.tensors[component].items()
            if not name.endswith("position_ids")
        }
        missing, unexpected = module.load_state_dict(tensors, strict=False)
        assert set(missing) <= {"encoder.embed_tokens.weight"}  # tied to the token embedding
        assert not unexpected
        read = [tokenizer.tokenize(prompt).ids for prompt in PROMPTS]
        ids = torch.tensor([[*row, *[tokenizer.pad] * (77 - len(row))] for row in read])
        mask = torch.arange(77) < torch.tensor([len(row) for row in read])[:, None]
        options = {"attention_mask": mask.long()} if name == "deepfloyd" else {}
        outputs = module(ids, output_hidden_states=True, **options)
        is_last = name != "sdxl"
        states.append(outputs.last_hidden_state if is_last else outputs.hidden_states[-2])
    return torch.cat(states, dim=-1)


def test_states_equal_those_of_transformers(name, folder):
    """In every family, the joined states equal those of transformers."""
    expected = expected_states(name, folder)

    actual = torch.stack(states_of(folder))

    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_shards", [1, 3])
def test_the_layout_does_not_matter(name, folder, tmp_path, n_shards):
    """Shards and the finer of two variants give the states of the plain folder."""
    other = write_folder(
        tmp_path / "other", small_model(name), torch.float16, torch.float32, n_shards=n_shards
    )

    for actual, expected in zip(states_of(other), states_of(folder), strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["sd15", "sd21", "sdxl"], indirect=True)
def test_a_single_file_needs_no_folder(name, folder, tmp_path):
    """A single file with fused projections and an extra layer gives the folder's states."""
    file = write_file(
        tmp_path / "one.safetensors", original_tensors(small_model(name)), torch.float32
    )

    for actual, expected in zip(states_of(file), states_of(folder), strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)


def test_half_precision_weights_run_in_float32(sd15, tmp_path):
    """float16 and bfloat16 weights give float32 states up to the rounding of the file."""
    for dtype, digits in ((torch.float16, 2e-2), (torch.bfloat16, 2e-1)):
        half = write_folder(tmp_path / str(dtype), small_model("sd15"), dtype)
        for actual, expected in zip(states_of(half), states_of(sd15), strict=True):
            assert actual.dtype == torch.float32
            torch.testing.assert_close(actual, expected, rtol=0, atol=digits)


def test_missing_tensors_and_wrong_shapes_are_refused(sd15, golden):
    """An encoder is checked before it runs; the error names the tensor and both shapes."""
    name = "text_model.encoder.layers.3.mlp.fc1.bias"

    rewrite(sd15, lambda tensors: tensors.update({name: torch.zeros(9)}))
    with golden.raises(CheckpointError, f"`{name}`", "[9]", "[128]"):
        encoder_of(locate(str(sd15)))
    rewrite(sd15, lambda tensors: tensors.pop(name))
    with golden.raises(CheckpointError, f"`{name}`"):
        encoder_of(locate(str(sd15)))


def test_the_configuration_of_a_folder_has_to_fit_its_tensors(sd15, golden):
    """A folder's own configuration takes precedence; heads, width and activation are checked."""
    path = sd15 / "text_encoder" / "config.json"
    config = json.loads(path.read_text())
    for changed in ({"num_attention_heads": 5}, {"hidden_size": 96}, {"hidden_act": "mish"}):
        path.write_text(json.dumps(config | changed))
        with golden.raises(CheckpointError):
            encoder_of(locate(str(sd15)))


def test_an_unknown_number_of_heads_is_not_guessed(tmp_path, golden):
    """A single file whose encoder has an unpublished width needs its folder."""
    model = small_model("sd15")
    tensors = {
        name: cut(value) if "cond_stage_model" in name or "attn2.to_" in name else value
        for name, value in original_tensors(model).items()
    }
    file = write_file(tmp_path / "one.safetensors", tensors, torch.float32)

    with golden.raises(CheckpointError, "48"):
        encoder_of(locate(str(file)))


def test_a_bare_unet_borrows_the_encoder_of_its_family(sd15, home, tmp_path, golden):
    """A bare UNet borrows the encoder of a known model on this machine, and fails without one."""
    model = small_model("sd15")
    bare = write_file(tmp_path / "unet.safetensors", model.tensors["unet"], torch.float16)
    with golden.raises(EditError, "models.yaml`"):
        encoder_of(locate(str(bare)))

    (home / "config" / "loco").mkdir(parents=True)
    (home / "config" / "loco" / "models.yaml").write_text(f"sd15: {sd15}\n")

    assert locate(str(bare)).encoder_model.name == "sd15"
    for actual, expected in zip(states_of(bare), states_of(sd15), strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def test_an_encoder_in_an_unsupported_format_is_not_replaced(sd15, home, tmp_path, golden):
    """A folder with its encoder in another format borrows none, even from a known model."""
    folder = shutil.copytree(sd15, tmp_path / "whole")
    (home / "config" / "loco").mkdir(parents=True)
    (home / "config" / "loco" / "models.yaml").write_text(f"sd15: {sd15}\n")
    weights = folder / "text_encoder" / "model.safetensors"
    for name in ("pytorch_model.bin", "flax_model.msgpack"):
        weights = weights.rename(weights.with_name(name))
        for model in (folder, folder / "unet"):
            with golden.raises(CheckpointError, f"`text_encoder/{name}`"):
                encoder_of(locate(str(model)))


def test_a_plan_names_the_lender_of_encoders(sd15, home, tmp_path, loco, golden):
    """A plan reports the model that lends its encoders, and warns about it."""
    shutil.copytree(sd15 / "unet", tmp_path / "alone")
    (home / "config" / "loco").mkdir(parents=True)
    (home / "config" / "loco" / "models.yaml").write_text(f"sd15: {sd15}\n")
    words = ["edit", "van gogh style", "--layers", "8", "--dry-run", "--json", "--model"]

    borrowed = loco(*words, tmp_path / "alone")
    whole = loco(*words, sd15)

    assert json.loads(borrowed.stdout)["texts"] == "sd15"
    golden(borrowed.stderr)
    assert (json.loads(whole.stdout)["texts"], whole.stderr) == (None, "")


def test_a_unet_uses_the_encoder_of_its_folder(sd15, tmp_path):
    """A `unet` folder, or a file in it, uses the encoder of the diffusers folder around it."""
    folder = shutil.copytree(sd15, tmp_path / "whole")

    for bare in (folder / "unet", *(folder / "unet").glob("*.safetensors")):
        assert locate(str(bare)).encoder_model.path == folder


def cut(value):
    """Remove the last quarter of every axis that is as wide as the text."""
    for axis, size in enumerate(value.shape):
        if size in (64, 128) and value.dtype == torch.float32:
            value = value.narrow(axis, 0, size * 3 // 4)
    return value.contiguous()


def rewrite(folder, change):
    from safetensors.torch import load_file, save_file

    path = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("options", "absent"),
    [
        ([], ("diffusers", "transformers", "huggingface_hub")),
        (["--dry-run"], ("torch", "numpy", "diffusers", "transformers", "huggingface_hub")),
    ],
)
def test_an_edit_loads_no_pipeline(tmp_path, options, absent):
    """An edit in named layers imports no pipeline library, and a plan imports no torch."""
    arguments = ["edit", "van gogh style", "--layers", "8", "--output", str(tmp_path / "edited")]
    code = f"""
import sys
from loco_cli.cli.app import app
try:
    app({[*arguments, *options]!r})
except SystemExit as stop:
    assert not stop.code
print([name for name in {absent!r} if name in sys.modules])
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"
    assert (tmp_path / "edited").exists() == (not options)
