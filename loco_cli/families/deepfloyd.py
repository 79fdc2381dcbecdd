"""DeepFloyd IF: its layers attend jointly to image and text."""

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

# attention module and the index of its width, in execution order
_ATTENTIONS = (
    *((f"down_blocks.{i}.attentions.{j}", i) for i in range(1, 4) for j in range(3)),
    ("mid_block.attentions.0", 3),
    *((f"up_blocks.{i}.attentions.{j}", 3 - i) for i in range(3) for j in range(4)),
)
_TEXT = TextInput(scope="prompt", tokens="text", order="text first", has_tuple_output=False)
_HID_PROJ = LinearMap("encoder_hid_proj")


def _layers(widths: Sequence[int]) -> tuple[CrossAttention, ...]:
    """
    Return the 22 text-reading layers of a first-stage IF UNet with these block widths.

    Each attention covers image and text. `to_k` and `to_v` project the image, `add_k_proj` and
    `add_v_proj` project the text. Down blocks 1-3 hold three layers each, the middle block holds
    one, and up blocks 0-2 hold four each.
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
    # labels number the blocks of the original layout, and IF has no such layout
    return block_and_label(name)[0], None


def _refusal(shapes: Shapes) -> tuple[str, str] | None:
    has_two_inputs = shapes.get(UNET.input_tensor, ())[1:2] == (6,)  # noisy and small picture
    if f"{_HID_PROJ.name}.weight" not in shapes or not has_two_inputs:
        return None
    return "is an upscaler of DeepFloyd IF, which loco does not support", "pass the first stage"


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
    lora=PEFT,  # only diffusers runs IF, and it reads only PEFT names
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
        published_ranges={},  # the layers depend on the prompt (arXiv:2405.01008)
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
            "the pooled embedding of add_embedding, unless edit.pooled is set",
            "the upscalers, which are separate models that read the prompt",
        ),
        licence="deepfloyd-if-license",
    ),
)
