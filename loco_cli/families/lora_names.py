"""
What a LoRA calls the modules of a model.

A1111, Forge, ComfyUI and diffusers all read kohya's names, in which SD 1 and 2 spell the modules of
the UNet as diffusers does and SDXL as its original file does. diffusers alone runs IF, and finds
its text projections under PEFT's names only.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from loco_cli.families.names import clip_name
from loco_cli.families.spec import Family

_ENCODERS: Mapping[Family, Mapping[str, str]] = {
    "sd1": {"text_encoder": "lora_te"},
    "sd2": {"text_encoder": "lora_te"},
    "sdxl": {"text_encoder": "lora_te1", "text_encoder_2": "lora_te2"},
}
_OPEN_CLIP = frozenset({("sd2", "text_encoder"), ("sdxl", "text_encoder_2")})
_CLIP_ATTENTION = re.compile(r"(.+\.self_attn\.)([qkv]|out)_proj")
_UNET_ATTENTION = re.compile(r"(down|up)_blocks\.(\d+)\.attentions\.(\d+)\.(.+)")
_MIDDLE = "mid_block.attentions.0."


@dataclass(frozen=True)
class Ends:
    """What follows a module's name: `Ends(".lora_up.weight", ".lora_down.weight", ".alpha")`."""

    up: str
    down: str
    alpha: str | None


KOHYA = Ends(".lora_up.weight", ".lora_down.weight", ".alpha")
PEFT = Ends(".lora_B.weight", ".lora_A.weight", None)


def ends_of(family: Family) -> Ends:
    """Return how the tensors of a family's LoRA end."""
    return PEFT if family == "if" else KOHYA


def lora_name(family: Family, component: str, module: str) -> str:
    """Return what a LoRA calls a module: `lora_unet_mid_block_attentions_0_..._attn2_to_k`."""
    if family == "if":
        return f"{component}.{module}"
    if component != "unet":
        return f"{_ENCODERS[family][component]}_{clip_name(module)}".replace(".", "_")
    spelled = original_module(module) if family == "sdxl" else module
    return f"lora_unet_{spelled}".replace(".", "_")


def read_names(family: Family, component: str, module: str) -> Iterator[str]:
    """Yield every name under which a LoRA of other hands may have a module."""
    yield f"{component}.{module}"
    if family == "if" or component not in ("unet", *_ENCODERS[family]):
        return
    if component == "unet":
        yield f"lora_unet_{module}".replace(".", "_")
    if component != "unet" or (family == "sdxl" and ".attentions." in module):
        yield lora_name(family, component, module)


def silent_partners(family: Family, component: str, module: str) -> tuple[str, ...]:
    """
    Return the modules that must be in a LoRA if `module` is: the others of an OpenCLIP attention.

    A1111 takes up the changes of such an attention only where q, k, v and out are all there.
    """
    found = _CLIP_ATTENTION.fullmatch(module)
    if not found or (family, component) not in _OPEN_CLIP:
        return ()
    return tuple(f"{found[1]}{name}_proj" for name in ("q", "k", "v", "out") if name != found[2])


def original_module(module: str) -> str:
    """Return how the original file spells a module that lies in an attention of the UNet."""
    if module.startswith(_MIDDLE):
        return f"middle_block.1.{module.removeprefix(_MIDDLE)}"
    found = _UNET_ATTENTION.fullmatch(module)
    if not found:
        raise ValueError(f"`{module}` lies in no attention of a UNet")
    slot = 3 * int(found[2]) + int(found[3])
    if found[1] == "down":
        return f"input_blocks.{1 + slot}.1.{found[4]}"  # the first input block is conv_in
    return f"output_blocks.{slot}.1.{found[4]}"
