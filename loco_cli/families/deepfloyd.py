"""DeepFloyd IF, whose layers read picture and text, the text by `add_k_proj` and `add_v_proj`."""

from collections.abc import Sequence

from loco_cli.families import known_concepts
from loco_cli.families.compvis import block_and_label
from loco_cli.families.names import PEFT
from loco_cli.families.spec import (
    UNET,
    Context,
    CrossAttention,
    Family,
    GroupNorm,
    LinearMap,
    ModelSpec,
    Pooling,
    Projection,
    Shapes,
    TextEncoderSpec,
    TextInput,
)

# in execution order: attention, the block whose width it has
_ATTENTIONS = (
    *((f"down_blocks.{i}.attentions.{j}", i) for i in range(1, 4) for j in range(3)),
    ("mid_block.attentions.0", 3),
    *((f"up_blocks.{i}.attentions.{j}", 3 - i) for i in range(3) for j in range(4)),
)
_TEXT = TextInput(scope="prompt", tokens="text", order="text first", has_tuple_output=False)
_HID_PROJ = LinearMap("encoder_hid_proj")


def _layers(widths: Sequence[int]) -> tuple[CrossAttention, ...]:
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
            _TEXT,
        )
        for index, (module, block) in enumerate(_ATTENTIONS)
    )


def _block(name: str) -> tuple[str, None]:
    # labels count in a layout that it was never written in, with two layers per block
    return block_and_label(name)[0], None


def _refusal(shapes: Shapes) -> tuple[str, str] | None:
    reads_two_pictures = shapes.get(UNET.input_tensor, ())[1:2] == (6,)
    if f"{_HID_PROJ.name}.weight" not in shapes or not reads_two_pictures:
        return None
    return "is an upscaler of DeepFloyd IF, whose layers loco does not know", "give the first stage"


_IF = Family(
    name="if",
    title="DeepFloyd IF",
    known_as="DeepFloyd IF",
    standard="deepfloyd",
    network=UNET,
    layer_table=_layers,
    width_tensors=tuple(f"down_blocks.{i}.resnets.0.conv1.weight" for i in range(4)),
    key_end=".add_k_proj.weight",
    signature={f"{_HID_PROJ.name}.weight": 2},
    single_file=None,
    block_label=_block,
    lora=PEFT,  # diffusers alone runs it, and finds its layers by these names only
    pipeline="IFPipeline",
    pipeline_options={
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
        "watermarker": None,
    },
    n_channels=3,
    has_vae=False,
    guided_batch="halves",
    has_residual_attention=True,
    refusal=_refusal,
    order=3,
)
FAMILIES = (_IF,)


MODELS: tuple[ModelSpec, ...] = (
    ModelSpec(
        name="deepfloyd",
        family=_IF,
        title="DeepFloyd IF-I-XL 1.0",
        hub_id="DeepFloyd/IF-I-XL-v1.0",
        d_text=2816,
        layers=_layers((704, 1408, 2112, 2816)),
        steps=100,
        guidance=7.0,
        resolution=64,
        scorer=known_concepts.CLIP_SCORER,
        published_ranges={},  # arXiv:2405.01008: which layers matter depends on the prompt
        known_concepts=known_concepts.STABLE_DIFFUSION,
        context=Context(
            (TextEncoderSpec("text_encoder", "tokenizer", "t5", "last", 4096, 24),),
            join="width",
            kind="per_layer",
            shared=(_HID_PROJ,),
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
