"""
The original (CompVis, SGM) names of a model's tensors, mapped to those of diffusers.

In a UNet with two layers per block:

    down_blocks.I.attentions.J   input_blocks.(1 + 3 I + J).1
    mid_block.attentions.0       middle_block.1
    up_blocks.I.attentions.J     output_blocks.(3 I + J).1

In each of these original blocks, `.0` is the resnet. A downsampler has a block of its own, and an
upsampler is the last part of its block.
"""

import re
from collections.abc import Iterator, Sequence

from loco_cli.families.names import OTHER_COMPONENT, RowSlice, TensorAlias, clip_name
from loco_cli.families.spec import UNET

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
# names of EMA tensors that must change with the keys and values of the UNet
_EMA_PROJECTION = re.compile(r"attn2to_[kv]weight$")
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_UNET_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_UNET_MIDDLE = ("mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1")
_UNET_ATTENTION = re.compile(r"(down|up)_blocks\.(\d+)\.attentions\.(\d+)\.(.+)")
_VAE_MIDDLE = {
    "block_1": "resnets.0",
    "block_2": "resnets.1",
    "attn_1.norm": "attentions.0.group_norm",
    "attn_1.q": "attentions.0.to_q",
    "attn_1.k": "attentions.0.to_k",
    "attn_1.v": "attentions.0.to_v",
    "attn_1.proj_out": "attentions.0.to_out.0",
}
_OPEN_CLIP_ENDS = {
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection": "text_projection.weight",
}
_OPEN_CLIP_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def original_aliases(tensors: Sequence[str]) -> Iterator[TensorAlias]:
    """
    Yield the diffusers name of each tensor of a single file.

    A tensor with an unknown name keeps that name, under `OTHER_COMPONENT`. A fused tensor of
    OpenCLIP yields one alias per projection.
    """
    ema = _ema_names(tensors)
    n_up = 1 + max(
        (int(m[1]) for n in tensors if (m := re.search(r"decoder\.up\.(\d+)\.", n))), default=-1
    )
    for tensor in tensors:
        if tensor in ema:
            yield TensorAlias(UNET.ema_component, ema[tensor], tensor)
        else:
            yield from _aliases_of(tensor, n_up)


def is_orphan_ema(component: str, name: str) -> bool:
    """Return True if a tensor is the EMA copy of a key or value projection that the file lacks."""
    is_ema = component == OTHER_COMPONENT and name.startswith(EMA_PREFIX)
    return is_ema and bool(_EMA_PROJECTION.search(name))


def original_module(module: str) -> str | None:
    """Return the original name of a module of an attention block, or None for other modules."""
    middle = "mid_block.attentions.0."
    if module.startswith(middle):
        return f"middle_block.1.{module.removeprefix(middle)}"
    found = _UNET_ATTENTION.fullmatch(module)
    if not found:
        return None
    slot = 3 * int(found[2]) + int(found[3])
    if found[1] == "down":
        return f"input_blocks.{1 + slot}.1.{found[4]}"  # input block 0 is conv_in
    return f"output_blocks.{slot}.1.{found[4]}"


def block_and_label(name: str) -> tuple[str, str | None]:
    """Return the diffusers block of a UNet tensor, and its label such as IN01, M00 or OUT03."""
    if middle := re.match(r"mid_block\.\w+\.\d+", name):
        return middle[0], "M00"
    found = re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)", name)
    if not found:
        return name.split(".")[0], "IN00" if name.startswith("conv_in.") else None
    i, j = int(found[2]), int(found[4])
    if found[1] == "down":
        return found[0], f"IN{3 * i + (3 if found[3] == 'downsamplers' else 1 + j):02}"
    return found[0], f"OUT{3 * i + (2 if found[3] == 'upsamplers' else j):02}"


def _ema_names(names: Sequence[str]) -> dict[str, str]:
    """Return the UNet tensor of each EMA copy, which has the same name without the dots."""
    if not any(name.startswith(EMA_PREFIX) for name in names):
        return {}
    return {
        EMA_PREFIX + name.removeprefix("model.").replace(".", ""): canonical
        for name in names
        if name.startswith(_UNET_PREFIX)
        and (canonical := _unet_name(name.removeprefix(_UNET_PREFIX)))
    }


def _aliases_of(tensor: str, n_up: int) -> Iterator[TensorAlias]:
    for prefix, component in _CLIP_PREFIXES.items():
        if tensor.startswith(prefix):
            yield TensorAlias(component, clip_name(tensor.removeprefix(prefix)), tensor)
            return
    for prefix, component in _OPEN_CLIP_PREFIXES.items():
        if tensor.startswith(prefix):
            for name, rows in _open_clip_names(tensor.removeprefix(prefix)):
                yield TensorAlias(
                    component, name, tensor, rows, tensor.endswith(".text_projection")
                )
            return
    if tensor.startswith(_VAE_PREFIX):
        yield TensorAlias("vae", _vae_name(tensor.removeprefix(_VAE_PREFIX), n_up), tensor)
    elif unet := _unet_name(tensor.removeprefix(_UNET_PREFIX)):
        yield TensorAlias(UNET.component, unet, tensor)
    else:
        yield TensorAlias(OTHER_COMPONENT, tensor, tensor)


def _unet_name(name: str) -> str | None:
    """Return the diffusers name of a UNet tensor, or None for a tensor of another component."""
    end, _, kind = name.rpartition(".")
    if end in _UNET_ENDS:
        return f"{_UNET_ENDS[end]}.{kind}"
    if found := re.fullmatch(r"middle_block\.([012])\.(.+)", name):
        return _inside(_UNET_MIDDLE[int(found[1])], found[2])
    found = re.fullmatch(r"(input|output)_blocks\.(\d{1,3})\.([012])\.(.+)", name)
    if not found:
        return None
    half = "down" if found[1] == "input" else "up"
    slot, rest = int(found[2]) - (half == "down"), found[4]  # input block 0 is conv_in
    if rest.startswith(("op.", "conv.")):
        return f"{half}_blocks.{slot // 3}.{half}samplers.0.conv.{rest.partition('.')[2]}"
    kind = "attentions" if found[3] == "1" else "resnets"
    return _inside(f"{half}_blocks.{slot // 3}.{kind}.{slot % 3}", rest)


def _vae_name(name: str, n_up: int) -> str:
    """Return the diffusers name of a VAE tensor; original names number the up blocks backwards."""
    name = re.sub(r"\.norm_out\.", ".conv_norm_out.", name)
    if found := re.fullmatch(r"(encoder|decoder)\.mid\.(block_[12]|attn_1\.\w+)\.(.+)", name):
        inner = _VAE_MIDDLE.get(found[2], found[2])
        return f"{found[1]}.mid_block.{inner}.{found[3].replace('nin_shortcut', 'conv_shortcut')}"
    pattern = r"(encoder\.down|decoder\.up)\.(\d{1,3})\.(block\.(\d+)|\w+sample)\.(.+)"
    found = re.fullmatch(pattern, name)
    if not found:
        return name
    half, block = found[1].rpartition(".")[2], int(found[2])
    block = block if half == "down" else n_up - 1 - block
    inner = f"resnets.{found[4]}" if found[4] else f"{half}samplers.0"
    rest = found[5].replace("nin_shortcut", "conv_shortcut")
    return f"{found[1]}_blocks.{block}.{inner}.{rest}"


def _open_clip_names(name: str) -> tuple[tuple[str, RowSlice | None], ...]:
    """
    Return the CLIP names of an OpenCLIP tensor, each with its rows in that tensor.

    `in_proj_weight` [3 d, d] stacks the weights of q, k and v.
    """
    if name in _OPEN_CLIP_ENDS:
        return ((_OPEN_CLIP_ENDS[name], None),)
    found = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)[._](weight|bias)", name)
    if not found:
        return ((name, None),)
    layer = f"text_model.encoder.layers.{found[1]}"
    if found[2] == "attn.in_proj":
        return tuple(
            (f"{layer}.self_attn.{q}_proj.{found[3]}", RowSlice(part, (1, 1, 1)))
            for part, q in enumerate("qkv")
        )
    return ((f"{layer}.{_OPEN_CLIP_LAYER.get(found[2], found[2])}.{found[3]}", None),)


def _inside(block: str, rest: str) -> str:
    end, _, kind = rest.rpartition(".")
    return f"{block}.{_RESNET.get(end, end)}.{kind}"
