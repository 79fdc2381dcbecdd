"""Loading: devices, dtypes, missing tensors and silence."""

import json
import shutil
import sys

import pytest
import torch
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

from loco_cli.errors import CheckpointError, RequestError
from loco_cli.interventions import Run
from loco_cli.models.locate import locate
from loco_cli.models.session import RunOptions, load_model
from loco_cli.sampling.pipeline import _choose_dtype, choose_device
from loco_cli.sampling.quiet import silence_libraries
from loco_cli.sampling.sample import sample_batch
from tests.families.layouts import write_folder
from tests.families.small import small_model

CPU = RunOptions(device="cpu")


@pytest.fixture
def copy(tiny, tmp_path):
    return shutil.copytree(tiny.path, tmp_path / "copy")


def without(path, name):
    tensors = load_file(path)
    del tensors[name]
    save_file(tensors, path, {"format": "pt"})


def test_an_absent_device_is_refused():
    """A device that this machine lacks is refused."""
    absent = "cuda" if sys.platform == "darwin" else "mps"

    with pytest.raises(RequestError, match=f"`{absent}`"):
        choose_device(absent)
    assert choose_device("cpu") == "cpu"
    assert choose_device("auto") in ("cpu", "cuda", "mps")


def test_auto_is_float32_on_a_cpu(golden):
    """The dtype `auto` is float32 on a CPU and float16 elsewhere."""
    assert _choose_dtype("auto", "cpu") == torch.float32
    assert _choose_dtype("auto", "cuda") == torch.float16
    assert _choose_dtype("bfloat16", "cpu") == torch.bfloat16
    with golden.raises(RequestError, "`int4`"):
        _choose_dtype("int4", "cpu")


def test_every_weight_is_the_files(pipeline, tiny):
    """The loaded UNet has the values of the checkpoint in float32."""
    tensors = load_file(tiny.path / "unet" / "diffusion_pytorch_model.safetensors")

    state = pipeline.pipe.unet.state_dict()

    assert state.keys() == tensors.keys()
    assert all(torch.equal(value, tensors[name].float()) for name, value in state.items())


def test_a_single_file_makes_the_same_pictures(pipeline, tiny_file):
    """A single file draws the same picture as its folder, bit for bit."""
    single = load_model(locate(str(tiny_file)), CPU)
    runs = [Run("a cat by monet", seed=1)]

    one = sample_batch(pipeline, runs, steps=2, guidance=4.0)
    other = sample_batch(single, runs, steps=2, guidance=4.0)

    assert torch.equal(other, one)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("unet/diffusion_pytorch_model.safetensors", "conv_in.bias"),
        ("vae/diffusion_pytorch_model.safetensors", "post_quant_conv.bias"),
        ("text_encoder/model.safetensors", "text_model.final_layer_norm.bias"),
    ],
)
def test_a_missing_tensor_is_refused(copy, file, name, golden):
    """A checkpoint that lacks a tensor is refused, although diffusers would fill it in."""
    without(copy / file, name)

    with golden.raises(CheckpointError, name.removeprefix("text_model.")):
        load_model(locate(str(copy)), CPU)


def test_a_part_that_is_missing_is_named(copy, golden):
    """The error for a checkpoint without a VAE names the VAE."""
    shutil.rmtree(copy / "vae")

    with golden.raises(CheckpointError, "vae"):
        load_model(locate(str(copy)), CPU)


def test_an_unreadable_folder_is_one_error(copy):
    """A folder that diffusers cannot read raises one error with the first line of its reason."""
    config = json.loads((copy / "unet" / "config.json").read_text())
    (copy / "unet" / "config.json").write_text(json.dumps({**config, "cross_attention_dim": 7}))

    with pytest.raises(CheckpointError, match="as `sd1`: ") as caught:
        load_model(locate(str(copy)), CPU)

    assert "\n" not in caught.value.message


@pytest.mark.parametrize(("name", "n_shards"), [("sd15", 1), ("deepfloyd", 2)])
def test_a_variant_alone_is_loaded(tmp_path, name, n_shards):
    """A folder that holds only the fp16 variant, in one or more shards, loads like a plain one."""
    model = small_model(name)
    shape = {"variant": "fp16", "n_shards": n_shards}
    folder = write_folder(tmp_path / "folder", model, torch.float32, **shape)

    loaded = load_model(locate(str(folder)), CPU)

    assert loaded.has_latents == (name != "deepfloyd")
    state = loaded.pipe.unet.state_dict()
    assert all(torch.equal(state[name], value) for name, value in model.tensors["unet"].items())


def test_a_model_that_draws_over_pictures_is_refused(copy, golden):
    """An inpainting UNet with nine input channels is refused."""
    config = json.loads((copy / "unet" / "config.json").read_text())
    (copy / "unet" / "config.json").write_text(json.dumps({**config, "in_channels": 9}))
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    narrow = tensors["conv_in.weight"]
    wide = torch.cat([narrow, torch.zeros(len(narrow), 5, 3, 3, dtype=narrow.dtype)], dim=1)
    save_file({**tensors, "conv_in.weight": wide}, file, {"format": "pt"})

    with golden.raises(CheckpointError, "9 channels, not 4"):
        load_model(locate(str(copy)), CPU)


def test_verbosity_is_restored():
    """The verbosity of both libraries is restored."""
    before = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()

    with pytest.raises(KeyError), silence_libraries():
        raise KeyError

    after = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    assert after == before
