"""
Canonical tensor names, and what files and LoRAs call them instead.

A tensor is known by its component, a folder of the diffusers layout, and by the name that
diffusers writes there: `("unet", "mid_block.attentions.0.proj_in.weight")`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

OTHER_COMPONENT = ""  # names that no component claims keep their own spelling

# what diffusers wrote before it renamed its attention
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_CLIP_ATTENTION = re.compile(r"(.+\.self_attn\.)([qkv]|out)_proj")


@dataclass(frozen=True)
class RowSlice:
    """
    One of several maps that a file keeps on top of each other: `RowSlice(1, (1, 1, 1))`.

    `shares` are the rows of all of them in proportion, `part` counts them from 0. This one is k of
    q, k and v. Where keys and values are narrower than queries the shares are (3, 1, 1).
    """

    part: int
    shares: tuple[int, ...]

    def of(self, n: int) -> tuple[int, int]:
        """Return where the slice begins and ends in `n` rows or bytes."""
        unit = n // sum(self.shares)
        begin = unit * sum(self.shares[: self.part])
        return begin, begin + unit * self.shares[self.part]

    def divides(self, n: int) -> bool:
        """Return whether `n` rows or bytes come out even."""
        return n % sum(self.shares) == 0


@dataclass(frozen=True)
class TensorAlias:
    """
    A canonical tensor in a file: `TensorAlias("unet", "conv_in.weight", "input_blocks.0.0.weight")`

    `rows` are those that are meant where the file fuses several maps; `is_transposed` tells that
    the file holds the transpose.
    """

    component: str
    name: str
    tensor: str
    rows: RowSlice | None = None
    is_transposed: bool = False


def component_aliases(component: str, tensors: Iterable[str]) -> Iterator[TensorAlias]:
    """Yield the place of each tensor of a file that lies in a component folder."""
    for tensor in tensors:
        if component.startswith("text_encoder"):
            yield TensorAlias(component, clip_name(tensor), tensor)
        elif component == "vae":
            owner, dot, rest = tensor.partition(".attentions.0.")
            projection, _, kind = rest.partition(".")
            new = f"{owner}{dot}{_OLD_ATTENTION.get(projection, projection)}.{kind}"
            yield TensorAlias(component, new if dot else tensor, tensor)
        else:
            yield TensorAlias(component, tensor, tensor)


def clip_name(name: str) -> str:
    """Return a CLIP tensor's name with the `text_model.` that some writers leave out."""
    is_bare = name.startswith(("embeddings.", "encoder.layers.", "final_layer_norm."))
    return f"text_model.{name}" if is_bare else name


@dataclass(frozen=True)
class LoraSpelling:
    """
    The names of a LoRA's tensors: `LoraSpelling(".lora_B.weight", ".lora_A.weight", None)`.

    A tensor's name is that of its module and one of the ends `up`, `down` and `alpha`. A1111,
    Forge, ComfyUI and diffusers all read kohya's names, for which `prefixes` has the first word of
    each component. PEFT's need none: they are component, dot and module.

    `original` spells a module of the network as the family's own files do, where kohya's names
    follow these, and returns None for one that they do not have. `whole_attentions` are the text
    encoders in which a program takes up q, k, v and out together or not at all. `base_version`,
    `implementation` and `is_v2` are kohya's words for the family; without a version a LoRA gets no
    metadata.
    """

    up: str
    down: str
    alpha: str | None
    prefixes: Mapping[str, str] = field(default_factory=dict)
    original: Callable[[str], str | None] | None = None
    whole_attentions: frozenset[str] = frozenset()
    base_version: str | None = None
    implementation: str | None = None
    is_v2: bool = False

    def name(self, component: str, module: str) -> str:
        """Return the name that is written: `lora_unet_mid_block_attentions_0_..._attn2_to_k`."""
        if component not in self.prefixes:
            return f"{component}.{module}"
        return self._with_prefix(component, self._original(component, module) or module)

    def names(self, component: str, module: str) -> Iterator[str]:
        """Yield every name under which a LoRA of other hands may have a module."""
        yield f"{component}.{module}"
        if component in self.prefixes:
            yield self._with_prefix(component, module)
            if original := self._original(component, module):
                yield self._with_prefix(component, original)

    def partners(self, component: str, module: str) -> tuple[str, ...]:
        """
        Return the modules that must be in a LoRA if `module` is: the others of an attention.

        A1111 takes up the changes of an OpenCLIP attention only where all four are there.
        """
        found = _CLIP_ATTENTION.fullmatch(module)
        if not found or component not in self.whole_attentions:
            return ()
        return tuple(
            f"{found[1]}{name}_proj" for name in ("q", "k", "v", "out") if name != found[2]
        )

    def _original(self, component: str, module: str) -> str | None:
        is_encoder = component.startswith("text_encoder")
        return None if is_encoder or self.original is None else self.original(module)

    def _with_prefix(self, component: str, module: str) -> str:
        spelled = clip_name(module) if component.startswith("text_encoder") else module
        return f"{self.prefixes[component]}_{spelled}".replace(".", "_")


KOHYA = LoraSpelling(".lora_up.weight", ".lora_down.weight", ".alpha")
PEFT = LoraSpelling(".lora_B.weight", ".lora_A.weight", None)
