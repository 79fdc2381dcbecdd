"""
Canonical tensor names, and the other names of the same tensors in files and LoRAs.

A canonical name is a component, which is a folder of the diffusers layout, and the name that
diffusers writes there: `("unet", "mid_block.attentions.0.proj_in.weight")`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

OTHER_COMPONENT = ""  # the component of tensors with unknown names

# names that diffusers used before it renamed the modules of its attention
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_CLIP_ATTENTION = re.compile(r"(.+\.self_attn\.)([qkv]|out)_proj")


@dataclass(frozen=True)
class RowSlice:
    """
    The rows of one projection in a fused tensor: `RowSlice(1, (1, 1, 1))`.

    `shares` holds the relative height of each stacked projection, and `part` is the index of this
    one. The example is k in a stack of q, k and v. If keys and values have a third of the rows of
    the queries, the shares are (3, 1, 1).
    """

    part: int
    shares: tuple[int, ...]

    def of(self, n: int) -> tuple[int, int]:
        """Return the begin and end of the slice in `n` rows or bytes."""
        unit = n // sum(self.shares)
        begin = unit * sum(self.shares[: self.part])
        return begin, begin + unit * self.shares[self.part]

    def divides(self, n: int) -> bool:
        """Return True if `n` rows or bytes divide evenly into the shares."""
        return n % sum(self.shares) == 0


@dataclass(frozen=True)
class TensorAlias:
    """
    A canonical name and the tensor of a file that holds it.

    `TensorAlias("unet", "conv_in.weight", "input_blocks.0.0.weight")` reads `conv_in.weight` of the
    UNet from the tensor `input_blocks.0.0.weight`. `rows` selects one projection of a fused tensor.
    If `is_transposed`, the file holds the transpose.
    """

    component: str
    name: str
    tensor: str
    rows: RowSlice | None = None
    is_transposed: bool = False


def component_aliases(component: str, tensors: Iterable[str]) -> Iterator[TensorAlias]:
    """Yield the canonical name of each tensor of a file in a component folder."""
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
    """Return the name of a CLIP tensor with the `text_model.` prefix that some files omit."""
    is_bare = name.startswith(("embeddings.", "encoder.layers.", "final_layer_norm."))
    return f"text_model.{name}" if is_bare else name


@dataclass(frozen=True)
class LoraSpelling:
    """
    The names of a LoRA's tensors: `LoraSpelling(".lora_B.weight", ".lora_A.weight", None)`.

    The name of a tensor is the name of its module plus one of the suffixes `up`, `down` and
    `alpha`. A1111, Forge, ComfyUI and diffusers all read kohya's module names. These start with
    the entry of `prefixes` for the component. PEFT's module names need no prefix: they join
    component and module with a dot.

    In some families, kohya's names follow the original layout. There, `original` maps a module of
    the network to its original name, or to None if it has none. `whole_attentions` holds the text
    encoders whose attentions some programs patch only if q, k, v and out are all present.
    `base_version`, `implementation` and `is_v2` are kohya's metadata for the family. Without
    `base_version`, a LoRA gets no metadata.
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
        """Return the name to write: `lora_unet_mid_block_attentions_0_..._attn2_to_k`."""
        if component not in self.prefixes:
            return f"{component}.{module}"
        return self._with_prefix(component, self._original(component, module) or module)

    def names(self, component: str, module: str) -> Iterator[str]:
        """Yield every name that a LoRA of another program may use for a module."""
        yield f"{component}.{module}"
        if component in self.prefixes:
            yield self._with_prefix(component, module)
            if original := self._original(component, module):
                yield self._with_prefix(component, original)

    def partners(self, component: str, module: str) -> tuple[str, ...]:
        """
        Return the modules that a LoRA must also contain if it contains `module`.

        A1111 patches the attention of an OpenCLIP encoder only if q, k, v and out are all present.
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
