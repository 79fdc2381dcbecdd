"""
Small models as single files in the original layout, with names from a second source.

The names come from diffusers' own conversion. Each possible original name gets a marker tensor,
diffusers converts the markers, and each diffusers name takes the original name of its marker. The
fused OpenCLIP encoders are written out. `test_original.py` checks the files: in diffusers, they
draw the same pictures as the folders.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from safetensors.torch import save_file
from torch import Tensor

from tests.families.small import SmallModel, small_model

Convert = Callable[[dict[str, Tensor], Mapping[str, Any]], dict[str, Tensor]]

UNET, VAE = "model.diffusion_model.", "first_stage_model."
_RESNET = (
    *("in_layers.0", "in_layers.2", "emb_layers.1"),
    *("out_layers.0", "out_layers.3", "skip_connection"),
)
_VAE_RESNET = ("norm1", "conv1", "norm2", "conv2", "nin_shortcut")
_VAE_ATTENTION = ("norm", "q", "k", "v", "proj_out")
_KINDS = ("weight", "bias")
_N_SLOTS = 12
_OPEN_CLIP_ENDS = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "text_projection.weight": "text_projection",
}
_OPEN_CLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def original_tensors(model: SmallModel) -> dict[str, Tensor]:
    """Return every tensor of a single file, under its original name."""
    tensors = {
        **_renamed(model, "unet", unet_names(model.name)),
        **_renamed(model, "vae", vae_names(model.name)),
        "alphas_cumprod": torch.linspace(1, 0, 1000),  # a buffer that training left in the file
    }
    encoder = model.tensors["text_encoder"]
    if model.family == "sd1":
        return tensors | _prefixed("cond_stage_model.transformer.", encoder)
    if model.family == "sd2":
        return tensors | _prefixed("cond_stage_model.model.", _open_clip(encoder, with_last=True))
    second = _open_clip(model.tensors["text_encoder_2"], with_last=False)
    return {
        **tensors,
        **_prefixed("conditioner.embedders.0.transformer.", encoder),
        **_prefixed("conditioner.embedders.1.model.", second),
    }


def with_ema(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a file, and the EMA copy of its UNet."""
    ema = {ema_name(name): value * 1.01 for name, value in tensors.items() if name.startswith(UNET)}
    return {**tensors, **ema, "model_ema.decay": torch.tensor(0.9999)}


def ema_name(name: str) -> str:
    """Return the name of a tensor's EMA copy, which has no dots."""
    return f"model_ema.{name.removeprefix('model.').replace('.', '')}"


def as_novelai(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a file with the encoder names of NovelAI."""
    return {
        name.replace(".transformer.text_model.", ".transformer."): t for name, t in tensors.items()
    }


def only_unet(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the UNet tensors of a file."""
    return {name: value for name, value in tensors.items() if name.startswith(UNET)}


def write_file(path: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Path:
    """Write a file; integer tensors keep their dtype."""
    save_file(cast(tensors, dtype), path, {"format": "pt", "modelspec.title": "A small model"})
    return path


def cast(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return copies in another dtype; integer tensors keep theirs."""
    return {
        name: value.to(dtype if value.is_floating_point() else value.dtype).contiguous().clone()
        for name, value in tensors.items()
    }


@cache
def unet_names(name: str) -> Mapping[str, str]:
    """Return the original name of each tensor of a model's UNet, with its prefix."""
    config = small_model(name).configs["unet/config.json"]
    wanted = small_model(name).tensors["unet"]
    names = _read_off(wanted, list(_unet_candidates(wanted)), convert_ldm_unet_checkpoint, config)
    attended = {original.rpartition(".1.")[0] for original in names.values() if ".1." in original}
    return {
        # an upsampler has index 2 after an attention, and index 1 in a block without one
        new: old if old.partition(".2.conv")[0] in attended else old.replace(".2.conv", ".1.conv")
        for new, old in names.items()
    }


@cache
def vae_names(name: str) -> Mapping[str, str]:
    """Return the original name of each tensor of a model's VAE, with its prefix."""
    config = small_model(name).configs["vae/config.json"]
    wanted = small_model(name).tensors["vae"]
    return _read_off(wanted, list(_vae_candidates()), convert_ldm_vae_checkpoint, config)


def _read_off(
    wanted: Iterable[str], candidates: list[str], convert: Convert, config: Mapping[str, Any]
) -> dict[str, str]:
    marks = {name: torch.tensor(mark) for mark, name in enumerate(candidates)}
    converted = convert(marks, config)
    return {name: candidates[int(converted[name])] for name in wanted}


def _unet_candidates(wanted: Iterable[str]) -> Iterator[str]:
    # both layouts have the same names inside an attention
    inner = {found[1] for name in wanted if (found := re.search(r"attentions\.\d+\.(.+)", name))}
    ends = ["time_embed.0", "time_embed.2", "label_emb.0.0", "label_emb.0.2", "out.0", "out.2"]
    slots = [f"{half}_blocks.{slot}" for half in ("input", "output") for slot in range(_N_SLOTS)]
    for slot in slots:
        ends += [f"{slot}.0.{end}" for end in (*_RESNET, "op")]
        ends += [f"{slot}.1.conv", f"{slot}.2.conv"]
    ends += [f"middle_block.{slot}.{end}" for slot in (0, 2) for end in _RESNET]
    ends.append("input_blocks.0.0")
    yield from (f"{UNET}{end}.{kind}" for end in ends for kind in _KINDS)
    yield from (f"{UNET}{slot}.1.{end}" for slot in slots for end in sorted(inner))
    yield from (f"{UNET}middle_block.1.{end}" for end in sorted(inner))


def _vae_candidates() -> Iterator[str]:
    ends = ["quant_conv", "post_quant_conv"]
    for half, way in (("encoder", "down"), ("decoder", "up")):
        ends += [f"{half}.{end}" for end in ("conv_in", "norm_out", "conv_out")]
        ends += [f"{half}.mid.attn_1.{end}" for end in _VAE_ATTENTION]
        ends += [f"{half}.mid.block_{n}.{end}" for n in (1, 2) for end in _VAE_RESNET]
        for slot in range(4):
            ends.append(f"{half}.{way}.{slot}.{way}sample.conv")
            blocks = [f"{half}.{way}.{slot}.block.{n}" for n in range(3)]
            ends += [f"{block}.{end}" for block in blocks for end in _VAE_RESNET]
    yield from (f"{VAE}{end}.{kind}" for end in ends for kind in _KINDS)


def _renamed(model: SmallModel, part: str, names: Mapping[str, str]) -> dict[str, Tensor]:
    # original files store the VAE's attention as 1x1 convolutions
    return {
        names[name]: value[..., None, None] if part == "vae" and value.ndim == 2 else value
        for name, value in model.tensors[part].items()
    }


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in tensors.items()}


def _open_clip(encoder: Mapping[str, Tensor], *, with_last: bool) -> dict[str, Tensor]:
    """Return an encoder in OpenCLIP's form; `with_last` adds the layer that diffusers omits."""
    layers: dict[str, dict[str, Tensor]] = {}
    tensors = {}
    for name, value in encoder.items():
        if found := re.fullmatch(r"text_model\.encoder\.layers\.(\d+)\.(.+)", name):
            layers.setdefault(found[1], {})[found[2]] = value
        else:
            tensors[_OPEN_CLIP_ENDS[name]] = value
    if with_last:
        layers[str(len(layers))] = {name: value + 1 for name, value in layers["0"].items()}
        tensors["text_projection"] = torch.eye(len(tensors["ln_final.bias"]))
    else:
        tensors["text_projection"] = tensors["text_projection"].T
    for number, layer in layers.items():
        tensors |= _prefixed(f"transformer.resblocks.{number}.", _fused(layer))
    return tensors | {"logit_scale": torch.tensor(4.6)}


def _fused(layer: Mapping[str, Tensor]) -> dict[str, Tensor]:
    own = {
        f"{new}.{kind}": layer[f"{old}.{kind}"]
        for old, new in _OPEN_CLIP_LAYER.items()
        for kind in _KINDS
    }
    for kind in _KINDS:
        parts = [layer[f"self_attn.{projection}_proj.{kind}"] for projection in "qkv"]
        own[f"attn.in_proj_{kind}"] = torch.cat(parts)
    return own
