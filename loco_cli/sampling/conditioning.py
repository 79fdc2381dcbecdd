"""
Prompts as a pipeline gives them to its network, and as each layer of a batch of runs reads them.

The pipeline encodes its prompts itself, so that pictures are those that other programs draw.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from loco_cli.families.spec import ModelSpec
from loco_cli.interventions import Run
from loco_cli.sampling.quiet import errors_only


@dataclass(frozen=True)
class _Conditioning:
    """
    What a prompt gives the UNet: the states of its tokens, and where there is one, their sum-up.
    """

    states: Tensor  # [n_tokens, d_states]
    pooled: Tensor | None = None  # [d_pooled]


@dataclass(frozen=True)
class _BatchConditioning:
    """
    What a batch of runs gives: the pipeline's own arguments, and what some layers read instead.
    """

    arguments: dict[str, Tensor]
    contexts: dict[int, Tensor]  # layer -> [n, n_tokens, d_text], guided [2n, ...]


@dataclass
class PromptEncoder:
    """A pipeline's way from prompts to conditioning; each prompt is encoded once, by itself."""

    pipe: Any
    spec: ModelSpec
    conditionings: dict[str, _Conditioning] = field(default_factory=dict)

    @property
    def network(self) -> nn.Module:
        """The network that reads them."""
        network: nn.Module = getattr(self.pipe, self.spec.network)
        return network

    def encode(self, prompt: str) -> _Conditioning:
        """Return the conditioning of a prompt, in the network's dtype."""
        if prompt not in self.conditionings:
            with torch.no_grad(), errors_only():
                states, _, *pooled = self.pipe.encode_prompt(
                    prompt=[prompt],
                    device=self.network.device,
                    num_images_per_prompt=1,
                    do_classifier_free_guidance=False,
                )
            dtype = self.network.dtype
            parts = (states, *pooled[:1])
            self.conditionings[prompt] = _Conditioning(*(part[0].to(dtype) for part in parts))
        return self.conditionings[prompt]

    def encode_negative(self) -> _Conditioning:
        """Return what guidance leads away from: the empty prompt, or zeros where it is those."""
        empty = self.encode("")
        if empty.pooled is None or not self.pipe.config.get("force_zeros_for_empty_prompt"):
            return empty
        return _Conditioning(torch.zeros_like(empty.states), torch.zeros_like(empty.pooled))

    def encode_batch(self, runs: Sequence[Run], *, is_guided: bool) -> _BatchConditioning:
        """
        Return what these runs give the UNet together.

        A context is made for every layer that reads another prompt than the UNet is given. Where
        nothing is pooled apart from the states, the UNet is given what shall be read past the
        layers.
        """
        past = tuple(run.pooled_prompt for run in runs)
        has_pooled = self.encode(past[0]).pooled is not None
        given = tuple(run.prompt for run in runs) if has_pooled else past
        contexts: dict[tuple[str, ...], Tensor] = {}
        context_of: dict[int, Tensor] = {}
        for layer in self.spec.layers:
            prompts = tuple(run.prompt_at(layer.index) for run in runs)
            if prompts == given:
                continue
            if prompts not in contexts:
                contexts[prompts] = self._context(prompts, is_guided)
            context_of[layer.index] = contexts[prompts]
        arguments = {"prompt_embeds": self._states(given)}
        if has_pooled:
            arguments["pooled_prompt_embeds"] = self._pooled(past)
        if is_guided:
            arguments |= self.negative_arguments(len(runs))
        return _BatchConditioning(arguments, context_of)

    def negative_arguments(self, n: int) -> dict[str, Tensor]:
        """Return the pipeline's arguments for what guidance leads away from, `n` times."""
        nothing = self.encode_negative()
        negative = {"negative_prompt_embeds": torch.stack([nothing.states] * n)}
        if nothing.pooled is not None:
            negative["negative_pooled_prompt_embeds"] = torch.stack([nothing.pooled] * n)
        return negative

    def _context(self, prompts: Sequence[str], is_guided: bool) -> Tensor:
        """Return what the layers read of these prompts, behind the map that they share."""
        states = self._states(prompts)
        if is_guided:
            nothing = torch.stack([self.encode_negative().states] * len(prompts))
            states = torch.cat([nothing, states])
        for shared in self.spec.context.shared:
            states = self.network.get_submodule(shared.name)(states)
        return states

    def _states(self, prompts: Sequence[str]) -> Tensor:  # [n, n_tokens, d_states]
        return torch.stack([self.encode(prompt).states for prompt in prompts])

    def _pooled(self, prompts: Sequence[str]) -> Tensor:  # [n, d_pooled]
        pooled = (self.encode(prompt).pooled for prompt in prompts)
        return torch.stack([one for one in pooled if one is not None])
