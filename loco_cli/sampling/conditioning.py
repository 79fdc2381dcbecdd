"""
The conditioning of a network: encoded prompts, and the contexts of layers with another prompt.

The pipeline's own encoders produce the conditioning, so pictures match those of other programs.
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
    """The encoded prompt: one state per token, and a pooled embedding if the model has one."""

    states: Tensor  # [n_tokens, d_states]
    pooled: Tensor | None = None  # [d_pooled]


@dataclass(frozen=True)
class _BatchConditioning:
    """The conditioning of a batch: pipeline arguments, and the contexts of individual layers."""

    arguments: dict[str, Tensor]
    contexts: dict[int, Tensor]  # layer -> [n, n_tokens, d_text], guided [2n, ...]


@dataclass
class PromptEncoder:
    """
    A cache of encoded prompts.

    Each prompt is encoded alone and only once, so its states do not depend on the batch.
    """

    pipe: Any
    spec: ModelSpec
    conditionings: dict[str, _Conditioning] = field(default_factory=dict)

    @property
    def network(self) -> nn.Module:
        """The network that reads the prompts."""
        network: nn.Module = getattr(self.pipe, self.spec.network)
        return network

    def encode(self, prompt: str) -> _Conditioning:
        """Return the conditioning of a prompt in the dtype of the network."""
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
        """Return the negative conditioning of guidance: the empty prompt, or zeros in SDXL."""
        empty = self.encode("")
        if empty.pooled is None or not self.pipe.config.get("force_zeros_for_empty_prompt"):
            return empty
        return _Conditioning(torch.zeros_like(empty.states), torch.zeros_like(empty.pooled))

    def encode_batch(self, runs: Sequence[Run], *, is_guided: bool) -> _BatchConditioning:
        """
        Return the conditioning of a batch of runs.

        The arguments hold one prompt per run, and layers with another prompt get a context. If the
        pipeline has no separate pooled embedding, the network pools the states of its argument. In
        that case the argument holds the prompt to pool, and the layers get the run's own prompt.

        Args:
            runs: The runs, at least one.
            is_guided: Put the negative conditioning in front of each context.

        Returns:
            The arguments of the pipeline, and contexts [n, n_tokens, d_text] by layer, or
            [2n, n_tokens, d_text] with guidance.
        """
        pooled = tuple(run.pooled_prompt for run in runs)
        has_pooled = self.encode(pooled[0]).pooled is not None
        given = tuple(run.prompt for run in runs) if has_pooled else pooled
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
            arguments["pooled_prompt_embeds"] = self._pooled(pooled)
        if is_guided:
            arguments |= self.negative_arguments(len(runs))
        return _BatchConditioning(arguments, context_of)

    def negative_arguments(self, n: int) -> dict[str, Tensor]:
        """Return the pipeline arguments for `n` copies of the negative conditioning."""
        negative = self.encode_negative()
        arguments = {"negative_prompt_embeds": torch.stack([negative.states] * n)}
        if negative.pooled is not None:
            arguments["negative_pooled_prompt_embeds"] = torch.stack([negative.pooled] * n)
        return arguments

    def _context(self, prompts: Sequence[str], is_guided: bool) -> Tensor:
        """Return the context of these prompts: their states after the maps that layers share."""
        states = self._states(prompts)
        if is_guided:
            negative = torch.stack([self.encode_negative().states] * len(prompts))
            states = torch.cat([negative, states])
        for shared in self.spec.context.shared:
            states = self.network.get_submodule(shared.name)(states)
        return states

    def _states(self, prompts: Sequence[str]) -> Tensor:  # [n, n_tokens, d_states]
        return torch.stack([self.encode(prompt).states for prompt in prompts])

    def _pooled(self, prompts: Sequence[str]) -> Tensor:  # [n, d_pooled]
        pooled = (self.encode(prompt).pooled for prompt in prompts)
        return torch.stack([one for one in pooled if one is not None])
