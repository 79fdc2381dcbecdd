"""
T5's encoder, run half a layer at a time.

Attention is bidirectional over the words and the end token, and ignores padding. Positions have no
embedding. Instead, each head adds a learned bias to its scores, which depends on the distance
between two tokens. Distances share buckets that grow with them. All layers use the biases of the
first layer, and scores are not scaled. The arithmetic is float32, because float16 overflows here.

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

Read = Callable[[str], Tensor]  # the name of a tensor -> its values in float32
_N_PROMPTS_PER_STEP = 16  # prompts that run together, which bounds the memory

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu_new": lambda x: functional.gelu(x, approximate="tanh"),
}
_DISTANCES = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
_FINAL = "encoder.final_layer_norm.weight"
_INNER = "encoder.block.0.layer.1.DenseReluDense.wo.weight"  # [d, d_inner]
_HEADS = "encoder.block.0.layer.0.SelfAttention.o.weight"  # [d, d_heads]


@dataclass(frozen=True)
class T5Shape:
    """
    The settings of an encoder that its tensors do not show: `T5Shape(n_layers=24, n_heads=64)`.

    Args:
        n_layers: The number of layers.
        n_heads: The number of attention heads.
        is_gated: True for the gated feed-forward part of version 1.1.
        activation: `relu` or `gelu_new`.
        epsilon: The epsilon of the norms.
        n_buckets: The number of buckets of distances.
        farthest: The distance, in tokens, from which on all pairs share a bucket.
    """

    n_layers: int
    n_heads: int
    is_gated: bool = True
    activation: str = "gelu_new"
    epsilon: float = 1e-6
    n_buckets: int = 32
    farthest: int = 128

    @classmethod
    def of(cls, config: Mapping[str, Any], states: str = "last") -> "T5Shape":
        """
        Read the shape from a configuration of transformers; raises CheckpointError.

        T5 always returns its last states, so `states` has no effect.
        """
        n_layers, n_heads = config.get("num_layers", 6), config.get("num_heads", 8)
        form = str(config.get("feed_forward_proj", "relu"))
        epsilon = config.get("layer_norm_epsilon", 1e-6)
        n_buckets = config.get("relative_attention_num_buckets", 32)
        farthest = config.get("relative_attention_max_distance", 128)
        # `gated-gelu` in a configuration of T5 1.1 means the tanh approximation
        activation = "gelu_new" if form == "gated-gelu" else form.removeprefix("gated-")
        counts = (n_layers, n_heads, n_buckets, farthest)
        is_t5 = all(isinstance(n, int) and n > 0 for n in counts)
        is_t5 = is_t5 and n_layers <= MAX_ENCODER_LAYERS and activation in _ACTIVATIONS
        if not is_t5 or not isinstance(epsilon, float):
            raise CheckpointError("the configuration of the text encoder is not valid for T5")
        is_gated = form.startswith("gated-")
        return cls(n_layers, n_heads, is_gated, activation, epsilon, n_buckets, farthest)

    def d_heads(self, d: int, shapes: Shapes) -> int:
        """Return the total width of all heads, in an encoder of width d."""
        return shapes.get(_HEADS, (0,))[-1]

    def tensor_shapes(self, d: int, shapes: Shapes) -> dict[str, tuple[int, ...]]:
        """
        Return name and shape of every tensor that the encoder reads, except the token embedding.

        Sizes that do not follow from d come from `shapes`, the shapes in the file.
        """
        d_inner, d_heads = shapes.get(_INNER, (0,))[-1], self.d_heads(d, shapes)
        sizes: dict[str, tuple[int, ...]] = {
            f"layer.0.SelfAttention.{name}.weight": (d_heads, d) for name in "qkv"
        }
        sizes["layer.0.SelfAttention.o.weight"] = (d, d_heads)
        sizes |= {f"layer.1.DenseReluDense.{name}.weight": (d_inner, d) for name in self.inner}
        sizes["layer.1.DenseReluDense.wo.weight"] = (d, d_inner)
        sizes |= {f"layer.{n}.layer_norm.weight": (d,) for n in (0, 1)}
        expected = {
            f"encoder.block.{number}.{end}": size
            for number in range(self.n_layers)
            for end, size in sizes.items()
        }
        return expected | {_DISTANCES: (self.n_buckets, self.n_heads), _FINAL: (d,)}

    @property
    def inner(self) -> tuple[str, ...]:
        """The input maps of the feed-forward part; the gate is the first of two."""
        return ("wi_0", "wi_1") if self.is_gated else ("wi",)


@torch.no_grad()
def t5_states(
    tokens: Tensor,  # [n, t, d], the token embeddings
    is_word: Tensor,  # [n, t], False for padding
    shape: T5Shape,
    read: Read,
) -> Tensor:  # [n, t, d]
    """
    Run the encoder on some prompts.

    Args:
        tokens: The token embeddings of the prompts.
        is_word: True for words and end tokens, which attention covers.
        shape: The settings of the encoder.
        read: Loads a tensor by its name.

    Returns:
        The last states after the final norm, including those of padding, in float32.
    """
    states = tokens
    bias = _position_bias(tokens.shape[1], read(_DISTANCES), shape)  # [1, heads, t, t]
    hidden = torch.zeros(is_word.shape).masked_fill(~is_word, torch.finfo(torch.float32).min)
    bias = bias + hidden[:, None, None]  # [n, heads, t, t]
    for number in range(shape.n_layers):
        block = f"encoder.block.{number}.layer"
        weights = {name: read(f"{block}.0.SelfAttention.{name}.weight") for name in "qkvo"}
        weights["norm"] = read(f"{block}.0.layer_norm.weight")
        pairs = zip(states.split(_N_PROMPTS_PER_STEP), bias.split(_N_PROMPTS_PER_STEP), strict=True)
        states = torch.cat([_attend(*pair, weights, shape) for pair in pairs])
        names = (*shape.inner, "wo")
        weights = {name: read(f"{block}.1.DenseReluDense.{name}.weight") for name in names}
        weights["norm"] = read(f"{block}.1.layer_norm.weight")
        chunks = states.split(_N_PROMPTS_PER_STEP)
        states = torch.cat([_feed_forward(chunk, weights, shape) for chunk in chunks])
    return _norm(states, read(_FINAL), shape.epsilon)


def _attend(x: Tensor, bias: Tensor, weights: dict[str, Tensor], shape: T5Shape) -> Tensor:
    normed = _norm(x, weights["norm"], shape.epsilon)
    q, k, v = (
        functional.linear(normed, weights[name]).unflatten(-1, (shape.n_heads, -1)).transpose(1, 2)
        for name in "qkv"
    )
    mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
    return x + functional.linear(mixed.transpose(1, 2).flatten(2), weights["o"])


def _feed_forward(x: Tensor, weights: dict[str, Tensor], shape: T5Shape) -> Tensor:
    normed = _norm(x, weights["norm"], shape.epsilon)
    gate, *through = (functional.linear(normed, weights[name]) for name in shape.inner)
    inner = _ACTIVATIONS[shape.activation](gate)
    for passed in through:
        inner = inner * passed
    return x + functional.linear(inner, weights["wo"])


def _norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    # unlike a layer norm, this norm does not subtract the mean
    return weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon))


def _position_bias(n_tokens: int, learned: Tensor, shape: T5Shape) -> Tensor:  # [1, heads, t, t]
    """
    Return the bias of each head for each pair of tokens; `learned` is [buckets, heads].

    One half of the buckets is for earlier tokens, the other half for later ones. In each half, the
    first buckets hold one distance each. The others hold ranges that grow up to `farthest`.
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
