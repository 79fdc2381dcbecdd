"""
What each layer makes of a prompt, read off the runs of the original at a few of their steps.

While the original's pictures are made, the UNet's inputs are kept; some of them are then replayed
on the conditional half alone. A replay costs a few evaluations and looks into every layer at once,
where an intervention costs a whole picture for a single window.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from loco_cli.events import Tick
from loco_cli.interventions import Run, SwapPrompt
from loco_cli.sampling.hooks import (
    Again,
    hook_layers,
    record_calls,
    replace_contexts,
    zero_other_values,
)
from loco_cli.sampling.pipeline import Pipeline
from loco_cli.sampling.sample import sample_batch


@dataclass(frozen=True)
class _Step:
    """One call of the UNet for the prompts of a batch, without the half that guidance adds."""

    sample: Tensor  # [n, c, h, w]
    timestep: Any
    others: dict[str, Any]

    def call(self, unet: nn.Module) -> Tensor:  # [n, c, h, w]
        """Return the UNet's prediction, without the variance that DeepFloyd's adds to it."""
        answer: Tensor = unet(self.sample, self.timestep, **self.others)[0]
        return answer[:, : self.sample.shape[1]]


@dataclass
class Trajectory:
    """A batch of runs without a swap, and the UNet's calls on their way."""

    runs: Sequence[Run]
    steps: list[_Step] = field(default_factory=list)

    def evenly_spaced(self, n: int) -> list[_Step]:
        """Return `n` of the steps, each from the middle of its share."""
        n = min(n, len(self.steps))
        return [self.steps[(2 * i + 1) * len(self.steps) // (2 * n)] for i in range(n)]

    def record(self, sample: Tensor, timestep: Any, **others: Any) -> None:
        """Keep a call of the UNet."""
        n = len(self.runs)
        half = n if len(sample) == 2 * n else 0
        self.steps.append(_Step(sample[half:], timestep, _from(half, others)))


def record_trajectory(
    pipeline: Pipeline,
    runs: Sequence[Run],
    *,
    steps: int,
    guidance: float,
    tick: Tick = lambda n: None,
) -> tuple[Trajectory, Tensor]:  # and pictures [n, 3, h, w], 0 to 1
    """Return how the pictures of runs without a swap come about, made together, and these."""
    trajectory = Trajectory(runs)
    with record_calls(pipeline.network, trajectory.record):
        images = sample_batch(pipeline, runs, steps=steps, guidance=guidance, tick=tick)
    return trajectory, images


def attribution_shares(
    pipeline: Pipeline, trajectory: Trajectory, targets: Sequence[str], n_steps: int
) -> Tensor:  # [n_runs, n_layers]
    """
    Return how large a share of the full swap each layer makes, to first order (attribution
    patching).

    Of the change `d` that the full swap makes to the noise prediction `e`, layer l makes

        a_l = <x_l' - x_l, gradient of <e, d> with respect to x_l> / |d|^2

    where `x_l` is the layer's output and `x_l'` what it would be if it alone read the target
    prompt, its queries unchanged. One backward pass gives every layer. Where several layers are
    enough the shares come out small, since the others stand in for each. Sizes are returned, means
    of |a_l| over the steps: once a thing is drawn, the layer that drew it pulls the other way.
    """
    contexts = _contexts(pipeline, trajectory.runs, targets)
    with _frozen(pipeline.network):
        found = [_shares(pipeline, step, contexts) for step in trajectory.evenly_spaced(n_steps)]
    return torch.stack(found).abs().mean(0)


def contribution_norms(
    pipeline: Pipeline,
    trajectory: Trajectory,
    tokens: Tensor,  # [n_runs, n_tokens], 1 for those of the subject
    n_steps: int,
) -> Tensor:  # [n_runs, n_layers]
    """
    Return the size of what some tokens add in each layer: |W_o (A[:, tok] V[tok])|.

    A mean over positions and steps. The bias of `W_o`, counted with every head's sum in the
    released code, is no token's and left out.

    Zarei et al. 2025, arXiv:2505.18832.
    """
    found = torch.zeros(pipeline.spec.n_layers, len(tokens))
    kept = trajectory.evenly_spaced(n_steps)

    def watch(index: int, attention: nn.Module, output: Tensor, again: Again) -> Tensor:
        mask = tokens[..., None].to(output)
        layer = pipeline.spec.layers[index]
        with zero_other_values(attention, layer, mask):
            with_tokens = again()
        with zero_other_values(attention, layer, mask * 0):
            without = again()
        sizes = _by_position(with_tokens - without).float().norm(dim=1)  # [n, positions]
        found[index] += sizes.mean(1).cpu() / len(kept)
        return output

    with torch.no_grad(), hook_layers(pipeline.network, pipeline.spec.layers, watch):
        for step in kept:
            step.call(pipeline.network)
    return found.T


def _shares(
    pipeline: Pipeline, step: _Step, contexts: dict[int, Tensor]
) -> Tensor:  # [n, n_layers]
    network, layers = pipeline.network, pipeline.spec.layers
    with torch.no_grad(), replace_contexts(network, layers, contexts):
        swapped = step.call(network).float()
    outputs: dict[int, Tensor] = {}
    changes: dict[int, Tensor] = {}

    def watch(index: int, attention: nn.Module, output: Tensor, again: Again) -> Tensor:
        with torch.no_grad():
            changes[index] = again(encoder_hidden_states=contexts[index]) - output
        # the first layer has nothing behind it that could be derived
        outputs[index] = output if output.requires_grad else output.detach().requires_grad_()
        return outputs[index]

    with torch.enable_grad(), hook_layers(network, layers, watch):
        prediction = step.call(network).float()
        change = (swapped - prediction).detach()
        size = change.flatten(1).norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
        # of length `scale`, so that no gradient vanishes in float16
        scale = change[0].numel() ** 0.5
        direction = change * (scale / size)[:, None, None, None]
        order = [layer.index for layer in layers]
        gradients = torch.autograd.grad(
            (prediction * direction).sum(), [outputs[index] for index in order]
        )
    shares = [
        (changes[index].float() * gradient.float()).flatten(1).sum(1)
        for index, gradient in zip(order, gradients, strict=True)
    ]
    return (torch.stack(shares, 1) / (scale * size)[:, None]).cpu()


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """While open, no weight has a gradient, which would keep what only it needs."""
    thawed = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in thawed:
            parameter.requires_grad_(True)


def _contexts(pipeline: Pipeline, runs: Sequence[Run], targets: Sequence[str]) -> dict[int, Tensor]:
    everywhere = tuple(range(pipeline.spec.n_layers))
    swapped = [
        Run(run.prompt, run.seed, SwapPrompt(everywhere, target))
        for run, target in zip(runs, targets, strict=True)
    ]
    return pipeline.prompt_encoder.encode_batch(swapped, is_guided=False).contexts


def _by_position(states: Tensor) -> Tensor:  # [n, channels, positions]
    """Return a layer's output, [n, positions, channels] or [n, channels, h, w], in one order."""
    return states.flatten(2) if states.ndim == 4 else states.transpose(1, 2)


def _from(start: int, value: Any) -> Any:
    """Return the runs from `start` on of all that is given per run, with guidance twice."""
    if isinstance(value, dict):
        return {key: _from(start, one) for key, one in value.items()}
    is_per_run = isinstance(value, Tensor) and value.ndim > 1 and len(value) == 2 * start
    return value[start:] if is_per_run else value
