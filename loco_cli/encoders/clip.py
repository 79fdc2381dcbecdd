"""
CLIP's text encoder, run layer by layer.

Each layer's weights are loaded when the layer runs and dropped afterwards, so an encoder of several
gigabytes needs the memory of one layer. The arithmetic is float32 for every dtype of the file.

Attention is causal: the state of a token depends only on the tokens up to it. All prompts share
their start token, and prompts of one template share a longer prefix. Each distinct prefix therefore
runs once (`Prefixes`).

Radford et al. 2021, arXiv:2103.00020; OpenCLIP differs only in its GELU.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from loco_cli.errors import CheckpointError
from loco_cli.families.spec import CLIP_POSITIONS, MAX_ENCODER_LAYERS, Shapes

Read = Callable[[str], Tensor]  # the name of a tensor -> its values in float32
Weights = Mapping[str, tuple[Tensor, Tensor]]  # weight and bias of each module of a layer
_N_PROMPTS_PER_STEP = 16  # prompts in one call of attention, which bounds the memory
# states in one call of the feed-forward part: little memory, enough work for all cores
_N_STATES_PER_STEP = 1024

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "gelu": functional.gelu,
}
_MAPS = (
    *(f"self_attn.{name}_proj" for name in ("q", "k", "v", "out")),
    *(f"mlp.fc{n}" for n in (1, 2)),
)
_NORMS = ("layer_norm1", "layer_norm2")
_LAYER = "text_model.encoder.layers.{}"
_FINAL = "text_model.final_layer_norm"
_INNER = "text_model.encoder.layers.0.mlp.fc1.weight"  # [d_inner, d]


@dataclass(frozen=True)
class ClipShape:
    """
    The settings of an encoder that its tensors do not show: `ClipShape(n_layers=12, n_heads=12)`.

    Args:
        n_layers: The number of layers that run.
        n_heads: The number of attention heads.
        activation: `quick_gelu` or `gelu`.
        epsilon: The epsilon of the layer norms.
        states: `last` applies the final norm, `penultimate` does not. `mixed` stops in the first
            attention, before its `out_proj`.
    """

    n_layers: int
    n_heads: int
    activation: str = "quick_gelu"
    epsilon: float = 1e-5
    states: Literal["last", "penultimate", "mixed"] = "last"

    @classmethod
    def of(cls, config: Mapping[str, Any], states: Literal["last", "penultimate"]) -> "ClipShape":
        """
        Read the shape from a configuration of transformers; raises CheckpointError.

        With `penultimate` states the last layer does not run, since nothing reads its states.
        """
        n_layers, n_heads = (
            config.get("num_hidden_layers", 12),
            config.get("num_attention_heads", 8),
        )
        activation = config.get("hidden_act", "quick_gelu")
        epsilon = config.get("layer_norm_eps", 1e-5)
        is_clip = all(isinstance(n, int) and n > 0 for n in (n_layers, n_heads))
        is_clip = is_clip and n_layers <= MAX_ENCODER_LAYERS and str(activation) in _ACTIVATIONS
        if not is_clip or not isinstance(epsilon, float):
            raise CheckpointError("the configuration of the text encoder is not valid for CLIP")
        return cls(n_layers - (states == "penultimate"), n_heads, activation, epsilon, states)

    def d_heads(self, d: int, shapes: Shapes) -> int:
        """Return the total width of all heads, in an encoder of width d."""
        return d

    def tensor_shapes(self, d: int, shapes: Shapes) -> dict[str, tuple[int, ...]]:
        """
        Return name and shape of every tensor that the encoder reads, except the token embedding.

        Sizes that do not follow from d come from `shapes`, the shapes in the file.
        """
        d_inner = shapes.get(_INNER, (0,))[0]
        expected: dict[str, tuple[int, ...]] = {
            CLIP_POSITIONS: (shapes.get(CLIP_POSITIONS, (0,))[0], d)
        }
        sizes: dict[str, tuple[int, ...]] = {
            **dict.fromkeys(_MAPS, (d, d)),
            **dict.fromkeys(_NORMS, (d,)),
            "mlp.fc1": (d_inner, d),
            "mlp.fc2": (d, d_inner),
        }
        for number in range(self.n_layers):
            for end, size in sizes.items():
                expected[f"{_LAYER.format(number)}.{end}.weight"] = size
                expected[f"{_LAYER.format(number)}.{end}.bias"] = size[:1]
        if self.states == "last":
            expected |= {f"{_FINAL}.weight": (d,), f"{_FINAL}.bias": (d,)}
        return expected


@dataclass(frozen=True)
class Prefixes:
    """
    The distinct prefixes of some rows of tokens as nodes, in the order of first occurrence.

    Args:
        tokens: The last token of each prefix, [u].
        positions: The position of that token, [u].
        paths: The nodes along each row, [n, t]. Short rows repeat their last node.
        homes: The index of the first occurrence of each node in the flattened `paths`, [u].
    """

    tokens: Tensor
    positions: Tensor
    paths: Tensor
    homes: Tensor

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> "Prefixes":
        """Find the prefixes of some rows of tokens, none of which is empty."""
        n_tokens = max(map(len, rows))
        nodes: dict[tuple[int, int], int] = {}  # (node of the shorter prefix, token) -> node
        tokens, positions, homes, paths = [], [], [], []
        for number, row in enumerate(rows):
            path: list[int] = []
            for position, token in enumerate(row):
                key = (path[-1] if path else -1, token)
                if key not in nodes:
                    nodes[key] = len(nodes)
                    tokens.append(token)
                    positions.append(position)
                    homes.append(number * n_tokens + position)
                path.append(nodes[key])
            paths.append([*path, *path[-1:] * (n_tokens - len(path))])
        return cls(*map(torch.tensor, (tokens, positions, paths, homes)))


@torch.no_grad()
def clip_states(
    tokens: Tensor,  # [u, d], the embedding of the last token of each prefix
    prefixes: Prefixes,
    shape: ClipShape,
    read: Read,
) -> Tensor:  # [n, t, d]
    """
    Run the encoder on all prefixes of some prompts.

    Args:
        tokens: The token embedding of each prefix.
        prefixes: The prefixes and the rows that they form.
        shape: The settings of the encoder.
        read: Loads a tensor by its name.

    Returns:
        The states of every row, as `shape.states` selects them, in float32.
    """
    states = tokens + read(CLIP_POSITIONS)[prefixes.positions]
    for number in range(shape.n_layers):
        layer = _LAYER.format(number)
        weights = {
            end: (read(f"{layer}.{end}.weight"), read(f"{layer}.{end}.bias"))
            for end in (*_MAPS, *_NORMS)
        }
        mixed = _attend(states, prefixes, weights, shape)
        if shape.states == "mixed":
            return mixed[prefixes.paths]
        states = states + functional.linear(mixed, *weights["self_attn.out_proj"])
        chunks = states.split(_N_STATES_PER_STEP)
        states = torch.cat([_feed_forward(chunk, weights, shape) for chunk in chunks])
    if shape.states == "last":
        final = read(f"{_FINAL}.weight"), read(f"{_FINAL}.bias")
        states = functional.layer_norm(states, states.shape[-1:], *final, shape.epsilon)
    return states[prefixes.paths]


def _attend(
    states: Tensor, prefixes: Prefixes, weights: Weights, shape: ClipShape
) -> Tensor:  # [u, d]
    """Attend from each state to itself and to the states before it on its path."""
    normed = functional.layer_norm(
        states, states.shape[-1:], *weights["layer_norm1"], shape.epsilon
    )
    projected = [
        functional.linear(normed, *weights[f"self_attn.{name}_proj"]).unflatten(
            -1, (shape.n_heads, -1)
        )  # [u, heads, d / heads]
        for name in "qkv"
    ]
    n_tokens, chunks = prefixes.paths.shape[1], []
    for begin in range(0, len(prefixes.paths), _N_PROMPTS_PER_STEP):
        paths = prefixes.paths[begin : begin + _N_PROMPTS_PER_STEP]
        q, k, v = (heads[paths].transpose(1, 2) for heads in projected)  # [n, heads, t, *]
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        first = begin * n_tokens
        homes = prefixes.homes[(prefixes.homes >= first) & (prefixes.homes < first + paths.numel())]
        chunks.append(mixed.transpose(1, 2).flatten(2).flatten(0, 1)[homes - first])
    return torch.cat(chunks)


def _feed_forward(x: Tensor, weights: Weights, shape: ClipShape) -> Tensor:
    normed = functional.layer_norm(x, x.shape[-1:], *weights["layer_norm2"], shape.epsilon)
    inner = _ACTIVATIONS[shape.activation](functional.linear(normed, *weights["mlp.fc1"]))
    return x + functional.linear(inner, *weights["mlp.fc2"])
