"""Which architecture a checkpoint is, told from names and shapes; an unknown one is refused."""

from collections.abc import Mapping
from pathlib import Path

from loco_cli.errors import CheckpointError, printable
from loco_cli.families.family import layers_of, n_blocks, standard_model
from loco_cli.families.names import EMA_PREFIX
from loco_cli.families.spec import Family

# (component, canonical name) → shape
Shapes = Mapping[tuple[str, str], tuple[int, ...]]


def _attentions(family: Family) -> frozenset[str]:
    layers = layers_of(family, (1,) * n_blocks(family))
    return frozenset(layer.module_path for layer in layers)


# SD 1 and SD 2 share their layers; SDXL's blocks hold several transformer layers each
_SD_ATTENTION = _attentions("sd1")
_SDXL_ATTENTION = _attentions("sdxl")
_IF_ATTENTION = _attentions("if")
_KEYS = (".attn2.to_k.weight", ".add_k_proj.weight")
_PROJ_IN = "down_blocks.0.attentions.0.proj_in.weight"
_KNOWN = "loco knows Stable Diffusion 1 and 2 (16 layers), SDXL (70 layers) and DeepFloyd IF"

# what weights without a UNet may be, told by a part of `component/name`; first match wins
_STRANGERS = (
    ("a LoRA", (".lora_", "_lora.", "lora_unet_", "lora_te", ".hada_w", ".lokr_", ".oft_")),
    ("a ControlNet", ("control_model.", "controlnet_")),
    ("a textual inversion", ("emb_params", "string_to_param")),
    (
        "a transformer such as SD 3 or Flux",
        ("joint_blocks.", "double_blocks.", "single_transformer_blocks."),
    ),
    ("a VAE", ("vae/", "/encoder.down", "/decoder.up", "/encoder.mid", "/decoder.mid")),
    ("a text encoder", ("text_encoder", "/text_model.", "/encoder.layers.")),
)


def family_of(where: Path, shapes: Shapes) -> Family:
    """
    Return the family of a checkpoint by the structure of its UNet, whatever its widths.

    SD 1 projects into its transformer blocks by a convolution, SD 2 by a linear map.

    Raises:
        CheckpointError: there is no UNet, its layers are none that are known, or the text
            encoders beside it do not fit it.
    """
    unet = [name for component, name in shapes if component == "unet"]
    attention = {
        name.rpartition(".")[0].rpartition(".")[0] for name in unet if name.endswith(_KEYS)
    }
    if not attention:
        raise _stranger(where, shapes)
    family = _family_by_layers(attention, shapes)
    if family is None:
        raise _unknown(where, len(attention), shapes)
    _check_encoders(where, family, shapes)
    return family


def _family_by_layers(attention: set[str], shapes: Shapes) -> Family | None:
    if attention == _SDXL_ATTENTION and ("unet", "add_embedding.linear_1.weight") in shapes:
        return "sdxl"
    if attention == _IF_ATTENTION and ("unet", "encoder_hid_proj.weight") in shapes:
        return "if"
    if attention != _SD_ATTENTION:
        return None
    rank = len(shapes.get(("unet", _PROJ_IN), ()))
    if rank == 4:
        return "sd1"
    return "sd2" if rank == 2 else None


def _check_encoders(where: Path, family: Family, shapes: Shapes) -> None:
    if family == "if":
        d_read = shapes["unet", "encoder_hid_proj.weight"][-1]
    else:
        d_read = next(s[-1] for (c, n), s in shapes.items() if c == "unet" and n.endswith(_KEYS))
    encoders = standard_model(family).context.encoders
    tables = [
        next((shapes[e.component, n] for n in e.token_tables if (e.component, n) in shapes), None)
        for e in encoders
    ]
    d_written = sum(shape[-1] for shape in tables if shape)
    if None not in tables and d_written != d_read:
        raise CheckpointError(
            f"the parts of `{printable(where)}` do not belong together: "
            f"its text encoder writes {d_written} numbers per token, its UNet reads {d_read}"
        )


def _unknown(where: Path, n_layers: int, shapes: Shapes) -> CheckpointError:
    first = shapes.get(("unet", "conv_in.weight"), ())
    if ("unet", "encoder_hid_proj.weight") in shapes and first[1:2] == (6,):
        return CheckpointError(
            f"`{printable(where)}` is an upscaler of DeepFloyd IF, whose layers loco does not know",
            "give the first stage",
        )
    return CheckpointError(
        f"`{printable(where)}` is of an architecture that loco does not know: "
        f"its UNet has {n_layers} cross-attention layers",
        _KNOWN,
    )


def _stranger(where: Path, shapes: Shapes) -> CheckpointError:
    if not shapes:
        return CheckpointError(f"`{printable(where)}` holds no tensors")
    hint = "give the checkpoint of a whole model: a `.safetensors` file or a diffusers folder"
    parts = sorted({component for component, _ in shapes if component})
    if any(name.startswith(EMA_PREFIX) for _, name in shapes):
        return CheckpointError(
            f"`{printable(where)}` has no UNet, only the averaged copy (EMA) of one, "
            "whose names have lost their dots",
            hint,
        )
    if len(parts) > 1:
        return CheckpointError(
            f"`{printable(where)}` has no UNet, only {printable(', '.join(parts))}", hint
        )
    names = [f"{component}/{name}" for component, name in shapes]
    for what, signs in _STRANGERS:
        if any(sign in name for name in names for sign in signs):
            return CheckpointError(f"`{printable(where)}` is {what}, not a model", hint)
    return CheckpointError(
        f"`{printable(where)}` is no model that loco knows: "
        f"none of its {len(names)} tensors is a cross-attention layer of a UNet",
        hint,
    )
