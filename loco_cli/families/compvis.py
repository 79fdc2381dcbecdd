"""
How the original (CompVis, SGM) layout spells the names that diffusers writes.

With two layers per block:

    down_blocks.I.attentions.J   input_blocks.(1 + 3 I + J).1
    mid_block.attentions.0       middle_block.1
    up_blocks.I.attentions.J     output_blocks.(3 I + J).1

The resnet of a slot is `.0` of it, a downsampler or upsampler has what is left.
"""

import re

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


def unet_name(name: str) -> str | None:
    """Return the diffusers name of a UNet tensor, or None where it is none."""
    end, _, kind = name.rpartition(".")
    if end in _UNET_ENDS:
        return f"{_UNET_ENDS[end]}.{kind}"
    if found := re.fullmatch(r"middle_block\.([012])\.(.+)", name):
        return _inside(_UNET_MIDDLE[int(found[1])], found[2])
    found = re.fullmatch(r"(input|output)_blocks\.(\d{1,3})\.([012])\.(.+)", name)
    if not found:
        return None
    half = "down" if found[1] == "input" else "up"
    slot, rest = int(found[2]) - (half == "down"), found[4]  # the first input block is conv_in
    if rest.startswith(("op.", "conv.")):
        return f"{half}_blocks.{slot // 3}.{half}samplers.0.conv.{rest.partition('.')[2]}"
    kind = "attentions" if found[3] == "1" else "resnets"
    return _inside(f"{half}_blocks.{slot // 3}.{kind}.{slot % 3}", rest)


def vae_name(name: str, n_up: int) -> str:
    """Return the diffusers name of a VAE tensor; its `n_up` up blocks are counted from the end."""
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


def open_clip_names(name: str) -> tuple[tuple[str, int | None], ...]:
    """
    Return the CLIP names of an OpenCLIP tensor, each with the third of the rows it has.

    `in_proj_weight` [3 d, d] is q, k and v on top of each other.
    """
    if name in _OPEN_CLIP_ENDS:
        return ((_OPEN_CLIP_ENDS[name], None),)
    found = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)[._](weight|bias)", name)
    if not found:
        return ((name, None),)
    layer = f"text_model.encoder.layers.{found[1]}"
    if found[2] == "attn.in_proj":
        return tuple(
            (f"{layer}.self_attn.{q}_proj.{found[3]}", third) for third, q in enumerate("qkv")
        )
    return ((f"{layer}.{_OPEN_CLIP_LAYER.get(found[2], found[2])}.{found[3]}", None),)


def _inside(block: str, rest: str) -> str:
    end, _, kind = rest.rpartition(".")
    return f"{block}.{_RESNET.get(end, end)}.{kind}"
