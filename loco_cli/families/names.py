"""
Canonical tensor names, and where a file keeps them under names of its own.

A tensor is known by its component, a folder of the diffusers layout, and by the name that
diffusers writes there: `("unet", "mid_block.attentions.0.proj_in.weight")`.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from loco_cli.families.compvis import open_clip_names, unet_name, vae_name
from loco_cli.families.spec import Family

EMA_COMPONENT = "unet_ema"
OTHER_COMPONENT = ""  # names that no component claims keep their own spelling

EMA_PREFIX = "model_ema."
_UNET_PREFIX = "model.diffusion_model."
_VAE_PREFIX = "first_stage_model."
_CLIP_PREFIXES = {
    "cond_stage_model.transformer.": "text_encoder",  # SD 1
    "conditioner.embedders.0.transformer.": "text_encoder",  # SDXL, first of two
}
_OPEN_CLIP_PREFIXES = {
    "cond_stage_model.model.": "text_encoder",  # SD 2
    "conditioner.embedders.0.model.": "text_encoder",  # SD-Turbo
    "conditioner.embedders.1.model.": "text_encoder_2",  # SDXL, second of two
}
# what diffusers wrote before it renamed its attention
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclass(frozen=True)
class TensorAlias:
    """
    A canonical tensor in a file: `TensorAlias("unet", "conv_in.weight", "input_blocks.0.0.weight")`

    `third` is the third of the rows that is meant where q, k and v are fused; `is_transposed`
    tells that the file holds the transpose.
    """

    component: str
    name: str
    tensor: str
    third: int | None = None
    is_transposed: bool = False


def component_places(component: str, tensors: Iterable[str]) -> Iterator[TensorAlias]:
    """Yield the place of each tensor of a file that lies in a component folder."""
    for tensor in tensors:
        if component.startswith("text_encoder"):
            yield TensorAlias(component, clip_name(tensor), tensor)
        elif component == "vae":
            yield TensorAlias(component, _renamed_attention(tensor), tensor)
        else:
            yield TensorAlias(component, tensor, tensor)


def single_file_places(tensors: Iterable[str]) -> Iterator[TensorAlias]:
    """Yield the places of the tensors of a file that lies in no component folder."""
    names = tuple(tensors)
    if any(name.startswith("up_blocks.") for name in names):  # a UNet alone, as diffusers writes it
        yield from component_places("unet", names)
        return
    ema = _ema_names(names)
    n_up = 1 + max(
        (int(m[1]) for n in names if (m := re.search(r"decoder\.up\.(\d+)\.", n))), default=-1
    )
    for tensor in names:
        if tensor in ema:
            yield TensorAlias(EMA_COMPONENT, ema[tensor], tensor)
        else:
            yield from _original_places(tensor, n_up)


def clip_name(name: str) -> str:
    """Return a CLIP tensor's name with the `text_model.` that some writers leave out."""
    is_bare = name.startswith(("embeddings.", "encoder.layers.", "final_layer_norm."))
    return f"text_model.{name}" if is_bare else name


def block_of(component: str, name: str, family: Family | None = None) -> tuple[str, str | None]:
    """
    Return a tensor's block by its diffusers name and, in the UNet, as IN01, M00 or OUT03.

    DeepFloyd's UNet was never written in the layout that these labels count in, and has none.
    """
    block, label = _labelled_block(component, name)
    return block, None if family == "if" else label


def _labelled_block(component: str, name: str) -> tuple[str, str | None]:
    if component not in ("unet", EMA_COMPONENT):
        pattern = (
            r"(text_model\.)?encoder\.(layers|block)\.\d+"
            r"|(en|de)coder\.(mid_block|(up|down)_blocks\.\d+)"
        )
        block = re.match(pattern, name)
        return (block[0] if block else name.split(".")[0]), None
    if middle := re.match(r"mid_block\.\w+\.\d+", name):
        return middle[0], "M00"
    found = re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)", name)
    if not found:
        return name.split(".")[0], "IN00" if name.startswith("conv_in.") else None
    i, j = int(found[2]), int(found[4])
    if found[1] == "down":
        return found[0], f"IN{3 * i + (3 if found[3] == 'downsamplers' else 1 + j):02}"
    return found[0], f"OUT{3 * i + (2 if found[3] == 'upsamplers' else j):02}"


def _renamed_attention(name: str) -> str:
    owner, dot, rest = name.partition(".attentions.0.")
    projection, _, kind = rest.partition(".")
    return f"{owner}{dot}{_OLD_ATTENTION.get(projection, projection)}.{kind}" if dot else name


def _ema_names(names: tuple[str, ...]) -> dict[str, str]:
    """Return the EMA copies: their keys are those of the UNet with the dots taken out."""
    if not any(name.startswith(EMA_PREFIX) for name in names):
        return {}
    return {
        EMA_PREFIX + name.removeprefix("model.").replace(".", ""): canonical
        for name in names
        if name.startswith(_UNET_PREFIX)
        and (canonical := unet_name(name.removeprefix(_UNET_PREFIX)))
    }


def _original_places(tensor: str, n_up: int) -> Iterator[TensorAlias]:
    for prefix, component in _CLIP_PREFIXES.items():
        if tensor.startswith(prefix):
            yield TensorAlias(component, clip_name(tensor.removeprefix(prefix)), tensor)
            return
    for prefix, component in _OPEN_CLIP_PREFIXES.items():
        if tensor.startswith(prefix):
            for name, third in open_clip_names(tensor.removeprefix(prefix)):
                yield TensorAlias(
                    component, name, tensor, third, tensor.endswith(".text_projection")
                )
            return
    if tensor.startswith(_VAE_PREFIX):
        yield TensorAlias("vae", vae_name(tensor.removeprefix(_VAE_PREFIX), n_up), tensor)
    elif unet := unet_name(tensor.removeprefix(_UNET_PREFIX)):
        yield TensorAlias("unet", unet, tensor)
    else:
        yield TensorAlias(OTHER_COMPONENT, tensor, tensor)
