"""DeepFloyd IF, the one whose text is read through `add_k_proj` and `add_v_proj`, as a literal."""

from loco_cli.families import known
from loco_cli.families.sd import CLIP_SCORER
from loco_cli.families.spec import (
    Context,
    CrossAttention,
    GroupNorm,
    ModelSpec,
    Pooling,
    Projection,
    TextEncoderSpec,
)

# in execution order: attention, the block whose width it has
_ATTENTIONS = (
    *((f"down_blocks.{i}.attentions.{j}", i) for i in range(1, 4) for j in range(3)),
    ("mid_block.attentions.0", 3),
    *((f"up_blocks.{i}.attentions.{j}", 3 - i) for i in range(3) for j in range(4)),
)


def if_layers(widths: tuple[int, int, int, int]) -> tuple[CrossAttention, ...]:
    """
    Return the 22 layers of a first-stage IF UNet that read the text, with these block widths.

    An attention has image and text side by side: `to_k` and `to_v` are the image's, the text has
    `add_k_proj` and `add_v_proj`. Down blocks 1-3 hold three, the middle one, up blocks 0-2 four.
    """
    return tuple(
        CrossAttention(
            index,
            module,
            (
                Projection("add_k_proj", widths[block], has_bias=True),
                Projection("add_v_proj", widths[block], has_bias=True),
            ),
        )
        for index, (module, block) in enumerate(_ATTENTIONS)
    )


MODELS: tuple[ModelSpec, ...] = (
    ModelSpec(
        name="deepfloyd",
        family="if",
        title="DeepFloyd IF-I-XL 1.0",
        hub_id="DeepFloyd/IF-I-XL-v1.0",
        d_text=2816,
        layers=if_layers((704, 1408, 2112, 2816)),
        steps=100,
        guidance=7.0,
        resolution=64,
        scorer=CLIP_SCORER,
        published_ranges={},  # arXiv:2405.01008: which layers matter depends on the prompt
        known=known.STABLE_DIFFUSION,
        context=Context(
            (TextEncoderSpec("text_encoder", "tokenizer", "t5", "last", 4096, 24),),
            hid_proj="encoder_hid_proj",
            norm_cross=GroupNorm("norm_cross"),
            pooling=Pooling("add_embedding"),
        ),
        unreachable=(
            "add_embedding, the pooled prompt, without edit.pooled",
            "the upscalers, models of their own that read the prompt",
        ),
        licence="deepfloyd-if-license",
    ),
)
