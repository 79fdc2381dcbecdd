"""Stable Diffusion XL and its Turbo."""

from collections.abc import Mapping, Sequence

from loco_cli.families import known
from loco_cli.families.compvis import labelled_block, original_module, original_places
from loco_cli.families.names import KOHYA, LoraSpelling
from loco_cli.families.spec import (
    UNET,
    Context,
    CrossAttention,
    Family,
    ModelSpec,
    PipelineClass,
    Projection,
    Signature,
    TextEncoderSpec,
    TextInput,
)

# in execution order: attention, the block whose width it has, how many layers it stacks
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

    Layers 0-3 are in down block 1, 4-23 in down block 2, 24-33 in the middle, 34-63 in up block 0,
    64-69 in up block 1: two layers stand in each attention of the wide blocks, ten in the others.
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
    signatures=(Signature("add_embedding.linear_1.weight"),),
    single_file=original_places,
    block_label=labelled_block,
    lora=LoraSpelling(
        KOHYA,
        {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"},
        original=original_module,
        whole_attentions=frozenset({"text_encoder_2"}),
        base_version="sdxl_base_v1-0",
        implementation="https://github.com/Stability-AI/generative-models",
    ),
    # by default its pictures are marked where a package that does so happens to be installed
    pipeline=PipelineClass("StableDiffusionXLPipeline", {"add_watermarker": False}, n_channels=4),
    has_vae=True,
    guided_batch="halves",
    place=2,
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

# the project page: layers 45-48, counted from 0 (its "64 layers" leave up block 1 out)
_PUBLISHED = {"style": (45, 49), "fact": (45, 49)}
# text_encoder_2 sums the prompt up in one vector, added to the time embedding of every block
_UNREACHABLE = ("the pooled embedding, which add_embedding reads",)


def _sdxl(
    name: str,
    title: str,
    hub_id: str,
    licence: str,
    architecture: str,
    sampling: tuple[int, float, int],
    published: Mapping[str, tuple[int, int]],
    spacing: str | None = None,
) -> ModelSpec:
    steps, guidance, resolution = sampling
    return ModelSpec(
        name=name,
        family=_SDXL,
        title=title,
        hub_id=hub_id,
        d_text=2048,
        layers=_layers((320, 640, 1280)),
        steps=steps,
        guidance=guidance,
        resolution=resolution,
        scorer=known.CLIP_SCORER,
        published_ranges=published,
        known=known.STABLE_DIFFUSION,
        context=_CONTEXT,
        unreachable=_UNREACHABLE,
        licence=licence,
        config=name,
        architecture=architecture,
        spacing=spacing,
    )


MODELS: tuple[ModelSpec, ...] = (
    _sdxl(
        "sdxl",
        "Stable Diffusion XL 1.0",
        "stabilityai/stable-diffusion-xl-base-1.0",
        "openrail++",
        "stable-diffusion-xl-v1-base",
        (50, 5.0, 1024),
        _PUBLISHED,
    ),
    _sdxl(
        "sdxl-turbo",
        "Stable Diffusion XL Turbo",
        "stabilityai/sdxl-turbo",
        "sai-nc-community",
        "stable-diffusion-xl-turbo-v1",
        (1, 0.0, 512),
        {},
        spacing="trailing",  # steps few and large
    ),
)
