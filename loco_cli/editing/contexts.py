"""
The context of each layer: the input of its key and value projections.

In Stable Diffusion, every layer reads the states of the text encoders directly. In DeepFloyd, the
states first pass through a map that all layers share, then through a norm that belongs to one
layer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from loco_cli.checkpoint.layout import ComponentReader
from loco_cli.families.spec import GroupNorm, Pooling
from loco_cli.models.locate import LocatedModel


@dataclass(frozen=True)
class Contexts:
    """
    The contexts of a model's layers, as functions of a prompt's states: `Contexts(located)`.

    Args:
        located: The model. Its tensors are read on first use.

    Example:
        >>> contexts = Contexts(locate("deepfloyd"))
        >>> shared = contexts.shared(states)  # [n_tokens, d_text]
        >>> contexts.of_layer(8)(shared)  # [n_tokens, d_text], the input of layer 8
    """

    located: LocatedModel

    @property
    def is_per_layer(self) -> bool:
        """True if layers differ in their context, which then depends on all tokens of a prompt."""
        return self.located.spec.context.kind == "per_layer"

    def shared(self, states: Tensor) -> Tensor:  # [n_tokens, d_states] -> [n_tokens, d_text]
        """Map the states of a prompt to the context that all layers share."""
        with torch.no_grad():
            for weight, bias in self._maps:
                states = functional.linear(states, weight, bias)
        return states

    def of_layer(self, layer: int) -> Callable[[Tensor], Tensor]:
        """Return the function from the shared context [n_tokens, d_text] to a layer's own."""
        norm = self.located.spec.context.norm_cross
        if norm is None:
            return lambda states: states
        name = f"{self.located.spec.layers[layer].module_path}.{norm.name}"
        weight, bias = self._affine(name)
        return lambda states: _group_normed(states, norm, weight, bias)

    def of_pooling(self, pooling: Pooling) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """Return the norm of a pooling, as a function of states, and the bias of its mean."""
        weight, bias = self._affine(pooling.norm)
        return (
            lambda states: _token_normed(states, weight, bias, pooling.epsilon),
            self.reader.read(pooling.mean_bias),
        )

    @cached_property
    def reader(self) -> ComponentReader:
        """The tensors of the network."""
        return ComponentReader(self.located.checkpoint, self.located.spec.network)

    @cached_property
    def _maps(self) -> tuple[tuple[Tensor, Tensor], ...]:
        return tuple(self._affine(linear.name) for linear in self.located.spec.context.shared)

    def _affine(self, name: str) -> tuple[Tensor, Tensor]:
        """Return the weight and the bias of a module."""
        return self.reader.read(f"{name}.weight"), self.reader.read(f"{name}.bias")


@torch.no_grad()
def _group_normed(
    context: Tensor,  # [n_tokens, d_text]
    norm: GroupNorm,
    weight: Tensor,  # [d_text]
    bias: Tensor,  # [d_text]
) -> Tensor:  # [n_tokens, d_text]
    """
    Apply the `norm_cross` of a layer to a context.

    Mean and variance run over the channels of a group and over all tokens, padding included. A
    change of one token therefore moves every other token.
    """
    return functional.group_norm(context.T[None], norm.n_groups, weight, bias, norm.epsilon)[0].T


@torch.no_grad()
def _token_normed(
    states: Tensor,  # [n_tokens, d_states]
    weight: Tensor,  # [d_states]
    bias: Tensor,  # [d_states]
    epsilon: float,
) -> Tensor:  # [n_tokens, d_states]
    """Apply the norm of DeepFloyd's `add_embedding`, which treats each token separately."""
    return functional.layer_norm(states, weight.shape, weight, bias, epsilon)
