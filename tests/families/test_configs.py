"""The packaged configurations build the published models."""

import functools
import json

import diffusers
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from loco_cli.families import registry

# one model for every configuration
PACKAGED = ("sd15", "sd21", "sd21-base", "sdxl", "sdxl-turbo")
# parameter counts of the published models, per encoder
N_OF_UNET = {"sd1": 859_520_964, "sd2": 865_910_724, "sdxl": 2_567_463_684}
N_OF_VAE = 83_653_863
N_OF_ENCODERS = {
    "sd1": (123_060_480,),
    "sd2": (340_387_840,),  # 23 layers of OpenCLIP-H
    "sdxl": (123_060_480, 694_659_840),
}
ENCODERS = {
    "CLIPTextModel": CLIPTextModel,
    "CLIPTextModelWithProjection": CLIPTextModelWithProjection,
}

every_config = pytest.mark.parametrize("name", PACKAGED)


def read(name, *parts):
    path = registry.config_folder(registry.get(name)).joinpath(*parts)
    return json.loads(path.read_text(encoding="utf-8"))


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def tokenizer_of(name, part="tokenizer"):
    """Return a tokenizer of a configuration, with the shared vocabulary."""
    return load_tokenizer(json.dumps(read(name, part, "tokenizer_config.json")))


@functools.cache  # one tokenizer takes a second
def load_tokenizer(settings):
    files = {"vocab": str(registry.CLIP_VOCABULARY), "merges": str(registry.CLIP_MERGES)}
    return CLIPTokenizer(**files, **json.loads(settings))


def test_every_model_of_a_single_file_has_a_configuration():
    """Every model except DeepFloyd, which has no single file, has a packaged configuration."""
    without = [n for n in registry.names() if registry.config_folder(registry.get(n)) is None]

    assert without == ["deepfloyd"]
    assert {registry.get(n).config for n in registry.names()} == (
        {registry.get(n).config for n in PACKAGED} | {None}
    )


def test_turbo_is_sdxl_with_another_sampler():
    """SDXL and its Turbo differ only in their scheduler and picture size."""
    for part in ("text_encoder", "text_encoder_2", "unet", "vae"):
        turbo, base = (read(name, part, "config.json") for name in ("sdxl-turbo", "sdxl"))
        assert turbo | {"sample_size": None} == base | {"sample_size": None}
    scheduler = read("sdxl-turbo", "scheduler", "scheduler_config.json")
    assert scheduler["timestep_spacing"] == "trailing"


@pytest.mark.parametrize("name", ["sd15", "sd21", "sd21-base", "sdxl"])
def test_the_unet_has_the_projections_of_the_spec(name):
    """At full size, the UNet has the parameter count of the published one and the spec's shapes."""
    spec = registry.get(name)

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(read(name, "unet", "config.json"))

    shapes = {tensor: tuple(value.shape) for tensor, value in unet.state_dict().items()}
    assert spec.tensor_shapes() == {
        tensor: shape
        for tensor, shape in shapes.items()
        if tensor.endswith((".attn2.to_k.weight", ".attn2.to_v.weight"))
    }
    assert count(unet) == N_OF_UNET[spec.family.name]
    assert unet.config.sample_size * 8 == spec.resolution


@every_config
def test_the_encoders_are_those_of_the_spec(name):
    """Encoders match the spec and have the parameter counts of the published ones."""
    spec = registry.get(name)

    for encoder, n_parameters in zip(
        spec.context.encoders, N_OF_ENCODERS[spec.family.name], strict=True
    ):
        config = CLIPTextConfig(**read(name, encoder.component, "config.json"))
        (kind,) = config.architectures
        with torch.device("meta"):
            model = ENCODERS[kind](config)
        assert (config.hidden_size, config.num_hidden_layers) == (encoder.width, encoder.n_layers)
        assert config.max_position_embeddings == encoder.n_tokens
        assert (kind == "CLIPTextModelWithProjection") == encoder.has_projection
        assert count(model) == n_parameters
        prefix = encoder.self_attention_path(0).removeprefix("text_model.")
        out_name, has_bias = encoder.out_projection
        core = getattr(model, "text_model", model)
        out = core.get_submodule(f"{prefix}.{out_name}")
        assert out.weight.shape == (encoder.width, encoder.width)
        assert (out.bias is not None) == has_bias


@every_config
def test_the_vae_is_the_published_one(name):
    """Every VAE has the same size, and only SDXL scales latents by another factor."""
    with torch.device("meta"):
        vae = AutoencoderKL.from_config(read(name, "vae", "config.json"))

    assert count(vae) == N_OF_VAE
    is_xl = registry.get(name).family.name == "sdxl"
    assert vae.config.scaling_factor == (0.13025 if is_xl else 0.18215)


@every_config
def test_the_index_fits_the_spec(name):
    """The pipeline accepts every component of the index, and the spec predicts as the scheduler."""
    scheduler = read(name, "scheduler", "scheduler_config.json")
    index = read(name, "model_index.json")
    pipeline_class = getattr(diffusers, index["_class_name"])

    expected, _ = pipeline_class._get_signature_keys(pipeline_class)

    assert {part for part, value in index.items() if isinstance(value, list)} == set(expected)
    assert scheduler["prediction_type"] == registry.get(name).prediction
    assert index["scheduler"] == ["diffusers", scheduler["_class_name"]]


def test_the_vocabulary_follows_from_the_merges():
    """The 49,408 tokens are letters, final letters, one token per merge, start and end."""
    vocabulary = json.loads(registry.CLIP_VOCABULARY.read_text(encoding="utf-8"))
    version, *merges = registry.CLIP_MERGES.read_text(encoding="utf-8").splitlines()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)

    assert list(vocabulary.values()) == list(range(49_408))
    assert version == "#version: 0.2"
    assert tokens[256:512] == [f"{letter}</w>" for letter in tokens[:256]]
    assert tokens[512:-2] == [merge.replace(" ", "") for merge in merges]
    assert tokens[-2:] == ["<|startoftext|>", "<|endoftext|>"]


@pytest.mark.parametrize(
    ("prompt", "ids"),
    [
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("A Photo  of a CAT", [320, 1125, 539, 320, 2368]),
        ("r2d2", [337, 273, 323, 273]),
    ],
)
def test_prompts_become_the_tokens_of_clip(prompt, ids):
    """Case and spaces do not matter, and an unknown word is split into parts."""
    assert tokenizer_of("sd15")(prompt).input_ids == [49_406, *ids, 49_407]


@every_config
def test_each_tokenizer_pads_as_in_training(name):
    """CLIP-L pads with its end token, and OpenCLIP pads with `!`, which is token 0."""
    for encoder in registry.get(name).context.encoders:
        tokenizer = tokenizer_of(name, encoder.tokenizer)
        ids = tokenizer("cat", padding="max_length").input_ids
        is_clip_l = encoder.width == 768
        assert len(ids) == encoder.n_tokens
        assert ids == [49_406, 2368, 49_407] + [49_407 if is_clip_l else 0] * 74


def test_the_source_of_the_vocabulary_is_named():
    """A notice beside the vocabulary names its source and its licence."""
    notice = (registry.CLIP_VOCABULARY.parent / "NOTICE.md").read_text(encoding="utf-8")

    assert "open_clip_torch" in notice
    assert "Permission is hereby granted" in notice
