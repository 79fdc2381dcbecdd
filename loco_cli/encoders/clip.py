"""
CLIP's text encoder, one layer at a time, from wherever its weights are.

A layer's weights are asked for when it runs and dropped when it has run, so that an encoder of
gigabytes needs the memory of one layer. Arithmetic is float32 whatever the file's dtype.

Attention is causal, so that a token's state depends on the tokens up to it and on nothing else.
All prompts share their start token, and templates share much more than that: a beginning that
several prompts have runs once (`Prefixes`).

Radford et al. 2021, arXiv:2103.00020; OpenCLIP differs by its GELU alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from loco_cli.errors import CheckpointError
from loco_cli.families.spec import CLIP_POSITIONS, MAX_ENCODER_LAYERS, Shapes

Read = Callable[[str], Tensor]  # a tensor's name -> float32
Weights = Mapping[str, tuple[Tensor, Tensor]]  # weight and bias of each map of a layer
_N_ATTENDED = 16  # prompts whose attention runs together
_N_WIDENED = 1024  # states that run together: few enough for the memory, enough for the cores

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
_INNER = "text_model.encoder.layers.0.mlp.fc1.weight"  # its height is the width of the middle


@dataclass(frozen=True)
class ClipShape:
    """
    The facts of an encoder that its tensors do not show: `ClipShape(n_layers=12, n_heads=12)`.

    `n_layers` counts those that run; the final norm follows where `states` is `last`. Where it is
    `mixed` the states are what the first attention has mixed of them, before its `out_proj`.
    """

    n_layers: int
    n_heads: int
    activation: str = "quick_gelu"
    epsilon: float = 1e-5
    states: Literal["last", "penultimate", "mixed"] = "last"

    @classmethod
    def of(cls, config: Mapping[str, Any], states: Literal["last", "penultimate"]) -> "ClipShape":
        """
        Return the shape of a configuration as transformers writes it; raises CheckpointError.

        With `states` `penultimate` the last layer is left out, as its states reach nobody.
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
            raise CheckpointError("the configuration of the text encoder is not CLIP's")
        return cls(n_layers - (states == "penultimate"), n_heads, activation, epsilon, states)

    def d_heads(self, d: int, shapes: Shapes) -> int:
        """Return the width of all heads together, in an encoder of width d."""
        return d

    def tensor_shapes(self, d: int, shapes: Shapes) -> dict[str, tuple[int, ...]]:
        """
        Return the tensors that are read but for the tokens' rows, as files name them.

        The sizes that d leaves open are those of a tensor of `shapes`.
        """
        d_inner = shapes.get(_INNER, (0,))[0]
        wanted: dict[str, tuple[int, ...]] = {
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
                wanted[f"{_LAYER.format(number)}.{end}.weight"] = size
                wanted[f"{_LAYER.format(number)}.{end}.bias"] = size[:1]
        if self.states == "last":
            wanted |= {f"{_FINAL}.weight": (d,), f"{_FINAL}.bias": (d,)}
        return wanted


@dataclass(frozen=True)
class Prefixes:
    """
    The distinct beginnings of some rows of tokens, one node for each, in the order they come up.

    `tokens` and `positions` [u] are the last token of each and where it stands. `paths` [n, t] are
    the nodes that a row passes, its last one repeated where other rows are longer; `homes` [u] are
    the places, counted through `paths`, where a node comes up first.
    """

    tokens: Tensor
    positions: Tensor
    paths: Tensor
    homes: Tensor

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> "Prefixes":
        """Return the beginnings of some rows of tokens, none of them empty."""
        n_tokens = max(map(len, rows))
        nodes: dict[tuple[int, int], int] = {}  # node of what comes before, token -> node
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
    tokens: Tensor,  # [u, d], the embedding of the last token of each beginning
    prefixes: Prefixes,
    shape: ClipShape,
    read: Read,
) -> Tensor:  # [n, t, d]
    """Return the states that reach the UNet, or are asked for, of every row of tokens."""
    states = tokens + read(CLIP_POSITIONS)[prefixes.positions]
    for number in range(shape.n_layers):
        layer = _LAYER.format(number)
        weights = {
            end: (read(f"{layer}.{end}.weight"), read(f"{layer}.{end}.bias"))
            for end in (*_MAPS, *_NORMS)
        }
        mixed = _mixed(states, prefixes, weights, shape)
        if shape.states == "mixed":
            return mixed[prefixes.paths]
        states = states + functional.linear(mixed, *weights["self_attn.out_proj"])
        states = torch.cat([_widened(chunk, weights, shape) for chunk in states.split(_N_WIDENED)])
    if shape.states == "last":
        final = read(f"{_FINAL}.weight"), read(f"{_FINAL}.bias")
        states = functional.layer_norm(states, states.shape[-1:], *final, shape.epsilon)
    return states[prefixes.paths]


def _mixed(
    states: Tensor, prefixes: Prefixes, weights: Weights, shape: ClipShape
) -> Tensor:  # [u, d]
    """Return the attention's mixture of each state and those before it on its path."""
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
    for begin in range(0, len(prefixes.paths), _N_ATTENDED):
        paths = prefixes.paths[begin : begin + _N_ATTENDED]
        q, k, v = (heads[paths].transpose(1, 2) for heads in projected)  # [n, heads, t, *]
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        first = begin * n_tokens
        homes = prefixes.homes[(prefixes.homes >= first) & (prefixes.homes < first + paths.numel())]
        chunks.append(mixed.transpose(1, 2).flatten(2).flatten(0, 1)[homes - first])
    return torch.cat(chunks)


def _widened(x: Tensor, weights: Weights, shape: ClipShape) -> Tensor:
    normed = functional.layer_norm(x, x.shape[-1:], *weights["layer_norm2"], shape.epsilon)
    inner = _ACTIVATIONS[shape.activation](functional.linear(normed, *weights["mlp.fc1"]))
    return x + functional.linear(inner, *weights["mlp.fc2"])
