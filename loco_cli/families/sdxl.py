"""Stable Diffusion XL and SDXL Turbo."""

from collections.abc import Sequence
from dataclasses import replace

from loco_cli.families import known_concepts
from loco_cli.families.compvis import block_and_label, original_aliases, original_module
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

# attention module, index of its width and number of stacked layers, in execution order
_ATTENTIONS = (
    *((f"down_blocks.1.attentions.{j}", 1, 2) for j in range(2)),
    *((f"down_blocks.2.attentions.{j}", 2, 10) for j in range(2)),
    ("mid_block.attentions.0", 2, 10),
    *((f"up_blocks.0.attentions.{j}", 2, 10) for j in range(3)),
    *((f"up_blocks.1.attentions.{j}", 1, 2) for j in range(3)),
)
_TEXT = TextInput(scope="prompt", tokens="text", order=None, has_tuple_output=False)


def _layers(widths: Sequence[int]) -> tuple[CrossAttention, ...]:
    """
    Return the 70 cross-attention layers of an SDXL UNet with these block widths.

    Layers 0-3 are in down block 1, 4-23 in down block 2, 24-33 in the middle block, 34-63 in up
    block 0 and 64-69 in up block 1. Each attention stacks two layers in down block 1 and up block
    1, and ten layers elsewhere.
    """
    places = (
        (f"{attention}.transformer_blocks.{depth}.attn2", widths[block])
        for attention, block, n_stacked in _ATTENTIONS
        for depth in range(n_stacked)
    )
    return tuple(
        CrossAttention(index, module, (Projection("to_k", width), Projection("to_v", width)), _TEXT)
        for index, (module, width) in enumerate(places)
    )


_SDXL = Family(
    name="sdxl",
    title="Stable Diffusion XL",
    known_as="SDXL (70 layers)",
    standard="sdxl",
    network=UNET,
    layer_table=_layers,
    width_tensors=tuple(f"down_blocks.{i}.resnets.0.conv1.weight" for i in range(3)),
    key_end=".attn2.to_k.weight",
    signature={"add_embedding.linear_1.weight": 2},
    single_file=original_aliases,
    block_label=block_and_label,
    lora=replace(
        KOHYA,
        prefixes={"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"},
        original=original_module,
        whole_attentions=frozenset({"text_encoder_2"}),
        base_version="sdxl_base_v1-0",
        implementation="https://github.com/Stability-AI/generative-models",
    ),
    pipeline="StableDiffusionXLPipeline",
    # by default, diffusers watermarks the pictures if the watermarking package is installed
    pipeline_options={"add_watermarker": False},
    n_channels=4,
    has_vae=True,
    guided_batch="halves",
    order=2,
)
FAMILIES = (_SDXL,)

_CONTEXT = Context(
    (
        TextEncoderSpec("text_encoder", "tokenizer", "clip", "penultimate", 768, 12),
        TextEncoderSpec(
            "text_encoder_2", "tokenizer_2", "clip", "penultimate", 1280, 32, has_projection=True
        ),
    ),
    join="width",
    kind="shared",
)

_XL = ModelSpec(
    name="sdxl",
    family=_SDXL,
    title="Stable Diffusion XL 1.0",
    hub_id="stabilityai/stable-diffusion-xl-base-1.0",
    d_text=2048,
    layers=_layers((320, 640, 1280)),
    steps=50,
    guidance=5.0,
    resolution=1024,
    scorer=known_concepts.CLIP_SCORER,
    # project page: layers 45-48, counted from 0; its "64 layers" exclude up block 1
    published_ranges={"style": (45, 49), "fact": (45, 49)},
    known_concepts=known_concepts.STABLE_DIFFUSION,
    context=_CONTEXT,
    # text_encoder_2 pools the prompt into one vector, which is added to the time embedding
    unreachable=("the pooled embedding, which add_embedding reads",),
    licence="openrail++",
    config="sdxl",
    architecture="stable-diffusion-xl-v1-base",
)

MODELS = (
    _XL,
    replace(
        _XL,
        name="sdxl-turbo",
        title="Stable Diffusion XL Turbo",
        hub_id="stabilityai/sdxl-turbo",
        steps=1,
        guidance=0.0,
        resolution=512,
        published_ranges={},
        licence="sai-nc-community",
        config="sdxl-turbo",
        architecture="stable-diffusion-xl-turbo-v1",
        spacing="trailing",  # for few, large steps
    ),
)
