"""
T5's encoder, half a layer at a time, from wherever its weights are.

Attention goes both ways, over words and end token but not over padding. Positions have no
embedding: each head adds a number to its scores by the distance between two tokens, learned for
buckets of distances that grow with them. The first layer's numbers serve every layer, and scores
are not scaled. Arithmetic is float32, since float16 overflows here.

Raffel et al. 2019, arXiv:1910.10683; the gated form is that of version 1.1.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from loco_cli.errors import CheckpointError
from loco_cli.families.spec import MAX_ENCODER_LAYERS, Shapes

Read = Callable[[str], Tensor]  # a tensor's name -> float32
_N_TOGETHER = 16  # prompts that run together

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu_new": lambda x: functional.gelu(x, approximate="tanh"),
}
_DISTANCES = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
_FINAL = "encoder.final_layer_norm.weight"
_WIDE = "encoder.block.0.layer.1.DenseReluDense.wo.weight"  # its width is that of the middle
_HEADS = "encoder.block.0.layer.0.SelfAttention.o.weight"  # its width is that of all heads


@dataclass(frozen=True)
class T5Shape:
    """The facts of an encoder that its tensors do not show: `T5Shape(n_layers=24, n_heads=64)`."""

    n_layers: int
    n_heads: int
    is_gated: bool = True
    activation: str = "gelu_new"
    epsilon: float = 1e-6
    n_buckets: int = 32
    farthest: int = 128  # distances from here on share a bucket

    @classmethod
    def of(cls, config: Mapping[str, Any], states: str = "last") -> "T5Shape":
        """
        Return the shape of a configuration as transformers writes it; raises CheckpointError.

        Its states are always the last ones.
        """
        n_layers, n_heads = config.get("num_layers", 6), config.get("num_heads", 8)
        form = str(config.get("feed_forward_proj", "relu"))
        epsilon = config.get("layer_norm_epsilon", 1e-6)
        n_buckets = config.get("relative_attention_num_buckets", 32)
        farthest = config.get("relative_attention_max_distance", 128)
        # what T5 1.1 means by a gated GELU
        activation = "gelu_new" if form == "gated-gelu" else form.removeprefix("gated-")
        counts = (n_layers, n_heads, n_buckets, farthest)
        is_t5 = all(isinstance(n, int) and n > 0 for n in counts)
        is_t5 = is_t5 and n_layers <= MAX_ENCODER_LAYERS and activation in _ACTIVATIONS
        if not is_t5 or not isinstance(epsilon, float):
            raise CheckpointError("the configuration of the text encoder is not T5's")
        is_gated = form.startswith("gated-")
        return cls(n_layers, n_heads, is_gated, activation, epsilon, n_buckets, farthest)

    def d_heads(self, d: int, shapes: Shapes) -> int:
        """Return the width of all heads together, in an encoder of width d."""
        return shapes.get(_HEADS, (0,))[-1]

    def tensor_shapes(self, d: int, shapes: Shapes) -> dict[str, tuple[int, ...]]:
        """
        Return the tensors that are read but for the tokens' rows, as files name them.

        The sizes that d leaves open are those of a tensor of `shapes`.
        """
        d_inner, d_heads = shapes.get(_WIDE, (0,))[-1], self.d_heads(d, shapes)
        sizes: dict[str, tuple[int, ...]] = {
            f"layer.0.SelfAttention.{name}.weight": (d_heads, d) for name in "qkv"
        }
        sizes["layer.0.SelfAttention.o.weight"] = (d, d_heads)
        sizes |= {f"layer.1.DenseReluDense.{name}.weight": (d_inner, d) for name in self.inner}
        sizes["layer.1.DenseReluDense.wo.weight"] = (d, d_inner)
        sizes |= {f"layer.{n}.layer_norm.weight": (d,) for n in (0, 1)}
        wanted = {
            f"encoder.block.{number}.{end}": size
            for number in range(self.n_layers)
            for end, size in sizes.items()
        }
        return wanted | {_DISTANCES: (self.n_buckets, self.n_heads), _FINAL: (d,)}

    @property
    def inner(self) -> tuple[str, ...]:
        """The maps into the wide middle: one, or the gate and what it lets through."""
        return ("wi_0", "wi_1") if self.is_gated else ("wi",)


@torch.no_grad()
def t5_states(
    tokens: Tensor,  # [n, t, d], the rows of the token embedding
    is_word: Tensor,  # [n, t], False for padding
    shape: T5Shape,
    read: Read,
) -> Tensor:  # [n, t, d]
    """Return the last hidden states behind the final norm, of padding too."""
    states = tokens
    bias = _position_bias(tokens.shape[1], read(_DISTANCES), shape)  # [1, heads, t, t]
    hidden = torch.zeros(is_word.shape).masked_fill(~is_word, torch.finfo(torch.float32).min)
    bias = bias + hidden[:, None, None]  # [n, heads, t, t]
    for number in range(shape.n_layers):
        block = f"encoder.block.{number}.layer"
        weights = {name: read(f"{block}.0.SelfAttention.{name}.weight") for name in "qkvo"}
        weights["norm"] = read(f"{block}.0.layer_norm.weight")
        pairs = zip(states.split(_N_TOGETHER), bias.split(_N_TOGETHER), strict=True)
        states = torch.cat([_attend(*pair, weights, shape) for pair in pairs])
        names = (*shape.inner, "wo")
        weights = {name: read(f"{block}.1.DenseReluDense.{name}.weight") for name in names}
        weights["norm"] = read(f"{block}.1.layer_norm.weight")
        states = torch.cat([_widen(chunk, weights, shape) for chunk in states.split(_N_TOGETHER)])
    return _norm(states, read(_FINAL), shape.epsilon)


def _attend(x: Tensor, bias: Tensor, weights: dict[str, Tensor], shape: T5Shape) -> Tensor:
    normed = _norm(x, weights["norm"], shape.epsilon)
    q, k, v = (
        functional.linear(normed, weights[name]).unflatten(-1, (shape.n_heads, -1)).transpose(1, 2)
        for name in "qkv"
    )
    mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
    return x + functional.linear(mixed.transpose(1, 2).flatten(2), weights["o"])


def _widen(x: Tensor, weights: dict[str, Tensor], shape: T5Shape) -> Tensor:
    normed = _norm(x, weights["norm"], shape.epsilon)
    gate, *through = (functional.linear(normed, weights[name]) for name in shape.inner)
    inner = _ACTIVATIONS[shape.activation](gate)
    for passed in through:
        inner = inner * passed
    return x + functional.linear(inner, weights["wo"])


def _norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    # the mean stays where it is
    return weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon))


def _position_bias(n_tokens: int, learned: Tensor, shape: T5Shape) -> Tensor:  # [1, heads, t, t]
    """
    Return the heads' bias of each pair of tokens; `learned` is [buckets, heads].

    Half of the buckets are for tokens behind, half for those ahead. In each half the first ones
    hold one distance each, the others ever more of them, up to `farthest`.
    """
    positions = torch.arange(n_tokens)
    ahead = positions - positions[:, None]  # [t, t]
    n_side = len(learned) // 2
    n_exact = n_side // 2
    distance = ahead.abs()
    growth = torch.log(distance.clamp(min=1) / n_exact) / math.log(shape.farthest / n_exact)
    far = (n_exact + (growth * (n_side - n_exact)).long()).clamp(max=n_side - 1)
    bucket = torch.where(distance < n_exact, distance, far) + n_side * (ahead > 0)
    return learned[bucket].permute(2, 0, 1)[None]
