"""A diffusers folder of Stable Diffusion 1.x as a single file with original names."""

import re
from pathlib import Path

import torch
from safetensors.torch import save_file

from loco_cli.checkpoint.layout import Checkpoint
from loco_cli.checkpoint.reader import read_tensor
from tests.checkpoints import sd1_weights

_VAE_WORDS = (
    (r"\.resnets\.(\d)", r".block.\1"),
    (r"downsamplers\.0\.conv", "downsample.conv"),
    (r"upsamplers\.0\.conv", "upsample.conv"),
    (r"conv_shortcut", "nin_shortcut"),
    (r"conv_norm_out", "norm_out"),
    (r"down_blocks", "down"),
    (r"mid_block\.block\.0", "mid.block_1"),
    (r"mid_block\.block\.1", "mid.block_2"),
    (r"mid_block\.attentions\.0", "mid.attn_1"),
    (r"group_norm", "norm"),
    (r"to_([qkv])", r"\1"),
    (r"to_out\.0", "proj_out"),
)


def write_single_file_of(checkpoint: Checkpoint, path: Path) -> Path:
    """Write all tensors of a folder to a file, with original names and unchanged dtypes."""
    unet = {w.name: w.original for w in sd1_weights() if w.component == "unet"}
    tensors = {}
    for component, name in checkpoint.slots_by_name:
        value = read_tensor(checkpoint.slots(component, name)[0])
        if component == "unet":
            tensors[unet[name]] = value
        elif component == "text_encoder":
            bare = name.removeprefix("text_model.")
            tensors[f"cond_stage_model.transformer.text_model.{bare}"] = value
        else:
            is_map = "attentions" in name and value.ndim == 2
            tensors[_vae_name(name)] = value[..., None, None] if is_map else value
    save_file({name: torch.clone(value) for name, value in tensors.items()}, path)
    return path


def _vae_name(name: str) -> str:
    for pattern, replacement in _VAE_WORDS:
        name = re.sub(pattern, replacement, name)
    # the original counts the way up from the picture's end
    name = re.sub(r"up_blocks\.(\d)", lambda found: f"up.{2 - int(found[1])}", name)
    return f"first_stage_model.{name}"
