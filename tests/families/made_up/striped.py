"""
Striped, a family that does not exist: what a new file of `loco_cli/families` has to say.

Its layers read the text by three projections, the last twice as wide as the others. Its single
files have names of their own, and keep the three on top of each other.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from loco_cli.families import known_concepts
from loco_cli.families.compvis import block_and_label
from loco_cli.families.names import (
    KOHYA,
    OTHER_COMPONENT,
    RowSlice,
    TensorAlias,
    clip_name,
)
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

_BLOCKS = ("down_blocks.0", "down_blocks.1", "mid_block", "up_blocks.0", "up_blocks.1")
_SHARES = {"to_k": 1, "to_v": 1, "to_g": 2}  # multiples of the block's width
_TEXT = TextInput(scope="prompt", tokens="text", order=None, has_tuple_output=False)


def _layers(widths: Sequence[int]) -> tuple[CrossAttention, ...]:
    """Return the five layers of a striped UNet, one in each block."""
    d_out = (widths[0], widths[1], widths[1], widths[1], widths[0])
    return tuple(
        CrossAttention(
            index,
            f"{block}.attentions.0.attn2",
            tuple(Projection(name, share * width) for name, share in _SHARES.items()),
            _TEXT,
        )
        for index, (block, width) in enumerate(zip(_BLOCKS, d_out, strict=True))
    )


def _places(tensors: Sequence[str]) -> Iterator[TensorAlias]:
    """Yield the places of a single file: `stripe.2.read.kvg` is three projections of layer 2."""
    for tensor in tensors:
        fused = re.fullmatch(r"stripe\.(\d)\.read\.kvg\.weight", tensor)
        owned = re.fullmatch(r"stripe\.(\d)\.(.+)", tensor)
        if fused:
            for part, name in enumerate(_SHARES):
                rows = RowSlice(part, tuple(_SHARES.values()))
                path = f"{_BLOCKS[int(fused[1])]}.attentions.0.attn2.{name}.weight"
                yield TensorAlias(UNET.component, path, tensor, rows)
        elif owned:
            yield TensorAlias(UNET.component, f"{_BLOCKS[int(owned[1])]}.{owned[2]}", tensor)
        elif tensor.startswith("paint."):
            yield TensorAlias(UNET.component, tensor.removeprefix("paint."), tensor)
        elif tensor.startswith("words."):
            yield TensorAlias("text_encoder", clip_name(tensor.removeprefix("words.")), tensor)
        else:
            yield TensorAlias(OTHER_COMPONENT, tensor, tensor)


_STRIPED = Family(
    name="striped",
    title="Striped",
    known_as="Striped (5 layers)",
    standard="striped-one",
    network=UNET,
    layer_table=_layers,
    width_tensors=("down_blocks.0.resnets.0.conv1.weight", "down_blocks.1.resnets.0.conv1.weight"),
    key_end=".attn2.to_k.weight",
    signature={"mid_block.attentions.0.attn2.to_g.weight": 2},
    single_file=_places,
    block_label=block_and_label,
    lora=replace(
        KOHYA,
        prefixes={"unet": "lora_unet", "text_encoder": "lora_te"},
        base_version="striped_v1",
        implementation="diffusers",
    ),
    pipeline="StripedPipeline",
    pipeline_options={},
    n_channels=4,
    has_vae=False,
    guided_batch="halves",
)
FAMILIES = (_STRIPED,)

MODELS = (
    ModelSpec(
        name="striped-one",
        family=_STRIPED,
        title="Striped One",
        hub_id="nobody/striped-one",
        d_text=768,
        layers=_layers((320, 640)),
        steps=20,
        guidance=5.0,
        resolution=512,
        scorer=known_concepts.CLIP_SCORER,
        published_ranges={"style": (2, 4)},
        known_concepts=known_concepts.STABLE_DIFFUSION,
        context=Context(
            (TextEncoderSpec("text_encoder", "tokenizer", "clip", "last", 768, 12),),
            join="width",
            kind="shared",
        ),
        config="sd1",
    ),
)
