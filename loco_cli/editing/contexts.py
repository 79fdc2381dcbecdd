"""
The contexts that keys and values of each layer read, from the states of the text encoders.

In Stable Diffusion a context is the states themselves, so that every layer reads the same. In
DeepFloyd they pass a map that all layers share and a norm that is each layer's own.
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
    """The contexts of a model's layers, as functions of a prompt's states: `Contexts(located)`."""

    located: LocatedModel

    @property
    def is_per_layer(self) -> bool:
        """True if each layer has a context of its own, which depends on all tokens of a prompt."""
        return self.located.spec.context.kind == "per_layer"

    def shared(self, states: Tensor) -> Tensor:  # [n_tokens, d_states] -> [n_tokens, d_text]
        """Return the context that all layers share, made of a prompt's states."""
        with torch.no_grad():
            for weight, bias in self._maps:
                states = functional.linear(states, weight, bias)
        return states

    def of_layer(self, layer: int) -> Callable[[Tensor], Tensor]:
        """Return the function that makes a layer's context of the shared one [n_tokens, d_text]."""
        norm = self.located.spec.context.norm_cross
        if norm is None:
            return lambda states: states
        name = f"{self.located.spec.layers[layer].module_path}.{norm.name}"
        weight, bias = self._affine(name)
        return lambda states: _group_normed(states, norm, weight, bias)

    def of_pooling(self, pooling: Pooling) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """Return the pooling's norm, a function of a prompt's states, and the bias of its mean."""
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
        """Return weight and bias of a module."""
        return self.reader.read(f"{name}.weight"), self.reader.read(f"{name}.bias")


@torch.no_grad()
def _group_normed(
    context: Tensor,  # [n_tokens, d_text]
    norm: GroupNorm,
    weight: Tensor,  # [d_text]
    bias: Tensor,  # [d_text]
) -> Tensor:  # [n_tokens, d_text]
    """
    Return a context behind a layer's `norm_cross`.

    Mean and variance are taken over a group's channels and all tokens, padding too: one changed
    token moves every other.
    """
    return functional.group_norm(context.T[None], norm.n_groups, weight, bias, norm.epsilon)[0].T


@torch.no_grad()
def _token_normed(
    states: Tensor,  # [n_tokens, d_states]
    weight: Tensor,  # [d_states]
    bias: Tensor,  # [d_states]
    epsilon: float,
) -> Tensor:  # [n_tokens, d_states]
    """Return states behind the norm of DeepFloyd's `add_embedding`, each token by itself."""
    return functional.layer_norm(states, weight.shape, weight, bias, epsilon)
