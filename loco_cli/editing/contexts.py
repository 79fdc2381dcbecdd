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
from loco_cli.families.spec import GroupNorm, Pooling
from loco_cli.models.encoders import finest
from loco_cli.models.locate import LocatedModel


@dataclass(frozen=True)
class Contexts:
    """The way from encoded prompts to what a layer reads: `Contexts(located)`."""

    located: LocatedModel

    @property
    def norm(self) -> GroupNorm | None:
        """The norm of each layer, over all tokens, None where the layers read alike."""
        return self.located.spec.context.norm_cross

    def shared(self, prompt: EncodedPrompt) -> EncodedPrompt:
        """Return a prompt with the states that the UNet hands to all of its layers."""
        if self._hid_proj is None:
            return prompt
        return replace(prompt, states=mapped(prompt.states, *self._hid_proj))

    def of_layer(self, layer: int) -> Callable[[Tensor], Tensor]:
        """Return what a layer makes of a prompt's shared states [n_tokens, d_text]."""
        norm = self.norm
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
    def _hid_proj(self) -> tuple[Tensor, Tensor] | None:
        name = self.located.spec.context.hid_proj
        return (self._read(f"{name}.weight"), self._read(f"{name}.bias")) if name else None

    def _read(self, name: str) -> Tensor:
        return read_tensor(finest(self.located.checkpoint.slots("unet", name))).float()
