"""
What keys and values of each layer read, from the states of the text encoders.

In Stable Diffusion that is the states themselves, so that every layer reads the same. In DeepFloyd
they pass a map that all layers share and a norm that is each layer's own.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from loco_cli.checkpoint.reader import read_tensor
from loco_cli.editing.context_maps import mapped, normed, token_normed
from loco_cli.encoders.encode import EncodedPrompt
from loco_cli.families.spec import Pooling
from loco_cli.models.encoders import finest
from loco_cli.models.locate import LocatedModel


@dataclass(frozen=True)
class Contexts:
    """The way from encoded prompts to what a layer reads: `Contexts(located)`."""

    located: LocatedModel

    @property
    def is_per_layer(self) -> bool:
        """Whether each layer reads its own, which then depends on all tokens of a prompt."""
        return self.located.spec.context.kind == "per_layer"

    def shared(self, prompt: EncodedPrompt) -> EncodedPrompt:
        """Return a prompt with the states that the network hands to all of its layers."""
        for weight, bias in self._maps:
            prompt = replace(prompt, states=mapped(prompt.states, weight, bias))
        return prompt

    def of_layer(self, layer: int) -> Callable[[Tensor], Tensor]:
        """Return what a layer makes of a prompt's shared states [n_tokens, d_text]."""
        norm = self.located.spec.context.norm_cross
        if norm is None:
            return lambda states: states
        name = f"{self.located.spec.layers[layer].module_path}.{norm.name}"
        weight, bias = self._read(f"{name}.weight"), self._read(f"{name}.bias")
        return lambda states: normed(states, norm.n_groups, weight, bias, norm.epsilon)

    def of_pooling(self, pooling: Pooling) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """Return what the pooling makes of a prompt's states, and what it adds to their mean."""
        weight, bias = (self._read(f"{pooling.norm}.{end}") for end in ("weight", "bias"))
        return (
            lambda states: token_normed(states, weight, bias, pooling.epsilon),
            self._read(pooling.mean_bias),
        )

    @cached_property
    def _maps(self) -> tuple[tuple[Tensor, Tensor], ...]:
        return tuple(
            (self._read(f"{one.name}.weight"), self._read(f"{one.name}.bias"))
            for one in self.located.spec.context.shared
        )

    def _read(self, name: str) -> Tensor:
        slots = self.located.checkpoint.slots(self.located.spec.network, name)
        return read_tensor(finest(slots)).float()
