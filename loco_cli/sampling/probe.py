"""
Estimates of each layer's effect from recorded steps of unmodified runs.

The inputs of the UNet are recorded while the pictures are generated. Some steps are then replayed
on the conditional half of the batch. A replay costs a few UNet calls and measures all layers at
once, whereas an intervention generates a whole picture to measure one window.
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
    RerunLayer,
    hook_layers,
    record_calls,
    replace_contexts,
    zero_other_values,
)
from loco_cli.sampling.pipeline import Pipeline
from loco_cli.sampling.sample import sample_batch


@dataclass(frozen=True)
class _Step:
    """One UNet call for the prompts of a batch, without the unconditional half of guidance."""

    sample: Tensor  # [n, c, h, w]
    timestep: Any
    others: dict[str, Any]

    def call(self, unet: nn.Module) -> Tensor:  # [n, c, h, w]
        """Return the noise prediction, without the variance channels of DeepFloyd."""
        output: Tensor = unet(self.sample, self.timestep, **self.others)[0]
        return output[:, : self.sample.shape[1]]


@dataclass
class Trajectory:
    """A batch of runs without a swap, and their recorded UNet calls."""

    runs: Sequence[Run]
    steps: list[_Step] = field(default_factory=list)

    def evenly_spaced(self, n: int) -> list[_Step]:
        """Return `n` of the steps, each from the middle of an equal share of them."""
        n = min(n, len(self.steps))
        return [self.steps[(2 * i + 1) * len(self.steps) // (2 * n)] for i in range(n)]

    def record(self, sample: Tensor, timestep: Any, **others: Any) -> None:
        """Record the conditional half of a UNet call."""
        n = len(self.runs)
        start = n if len(sample) == 2 * n else 0
        self.steps.append(_Step(sample[start:], timestep, _conditional_rows(start, others)))


def record_trajectory(
    pipeline: Pipeline,
    runs: Sequence[Run],
    *,
    steps: int,
    guidance: float,
    tick: Tick = lambda n: None,
) -> tuple[Trajectory, Tensor]:  # and pictures [n, 3, h, w], 0 to 1
    """
    Generate the pictures of one batch of runs, and record their UNet calls.

    Args:
        pipeline: The pipeline that generates the pictures.
        runs: Runs without a swap.
        steps: The number of denoising steps.
        guidance: The scale of classifier-free guidance.
        tick: Called after each UNet call with the number of pictures.

    Returns:
        The recorded trajectory, and the pictures [n, 3, h, w] with values from 0 to 1.
    """
    trajectory = Trajectory(runs)
    with record_calls(pipeline.network, trajectory.record):
        images = sample_batch(pipeline, runs, steps=steps, guidance=guidance, tick=tick)
    return trajectory, images


def attribution_shares(
    pipeline: Pipeline, trajectory: Trajectory, targets: Sequence[str], n_steps: int
) -> Tensor:  # [n_runs, n_layers]
    """
    Estimate each layer's share of the effect of a full swap by attribution patching.

    The full swap changes the noise prediction `e` by `d`. To first order, the share of layer l is

        a_l = <x_l' - x_l, gradient of <e, d> with respect to x_l> / |d|^2

    where `x_l` is the output of the layer. `x_l'` is its output for the target prompt, with
    unchanged queries. One backward pass yields the shares of all layers. If several layers are each
    sufficient, all shares are small, because the other layers compensate. The result is the mean of
    |a_l| over the steps: the sign flips once the layer has drawn the concept.

    Args:
        pipeline: The pipeline that recorded the trajectory.
        trajectory: Runs of the source prompts.
        targets: The target prompt of each run.
        n_steps: The number of steps to replay.

    Returns:
        Absolute shares [n_runs, n_layers] on the CPU.
    """
    contexts = _swapped_contexts(pipeline, trajectory.runs, targets)
    steps = trajectory.evenly_spaced(n_steps)
    with _freeze_parameters(pipeline.network):
        shares = [_step_shares(pipeline, step, contexts) for step in steps]
    return torch.stack(shares).abs().mean(0)


def contribution_norms(
    pipeline: Pipeline,
    trajectory: Trajectory,
    tokens: Tensor,  # [n_runs, n_tokens], 1 at the tokens of the subject
    n_steps: int,
) -> Tensor:  # [n_runs, n_layers]
    """
    Return the mean norm of the contribution of some tokens to each layer's output.

    The contribution is W_o (A[:, tok] V[tok]), and the mean runs over positions and steps. The bias
    of `W_o` belongs to no token and is excluded, whereas the released code adds it for every head.

    Zarei et al. 2025, arXiv:2505.18832.

    Args:
        pipeline: The pipeline that recorded the trajectory.
        trajectory: Runs of the source prompts.
        tokens: A mask [n_runs, n_tokens], 1 at the tokens of the subject.
        n_steps: The number of steps to replay.

    Returns:
        Mean norms [n_runs, n_layers] on the CPU.
    """
    norms = torch.zeros(pipeline.spec.n_layers, len(tokens))
    steps = trajectory.evenly_spaced(n_steps)

    def visit(index: int, attention: nn.Module, output: Tensor, rerun: RerunLayer) -> Tensor:
        mask = tokens[..., None].to(output)
        layer = pipeline.spec.layers[index]
        with zero_other_values(attention, layer, mask):
            with_tokens = rerun()
        with zero_other_values(attention, layer, mask * 0):
            without = rerun()
        sizes = _by_position(with_tokens - without).float().norm(dim=1)  # [n, positions]
        norms[index] += sizes.mean(1).cpu() / len(steps)
        return output

    with torch.no_grad(), hook_layers(pipeline.network, pipeline.spec.layers, visit):
        for step in steps:
            step.call(pipeline.network)
    return norms.T


def _step_shares(
    pipeline: Pipeline, step: _Step, contexts: dict[int, Tensor]
) -> Tensor:  # [n, n_layers]
    network, layers = pipeline.network, pipeline.spec.layers
    with torch.no_grad(), replace_contexts(network, layers, contexts):
        swapped = step.call(network).float()
    outputs: dict[int, Tensor] = {}
    changes: dict[int, Tensor] = {}

    def visit(index: int, attention: nn.Module, output: Tensor, rerun: RerunLayer) -> Tensor:
        with torch.no_grad():
            changes[index] = rerun(encoder_hidden_states=contexts[index]) - output
        # parameters are frozen, so the output of the first layer has no gradient of its own
        outputs[index] = output if output.requires_grad else output.detach().requires_grad_()
        return outputs[index]

    with torch.enable_grad(), hook_layers(network, layers, visit):
        prediction = step.call(network).float()
        change = (swapped - prediction).detach()
        size = change.flatten(1).norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
        # the norm of the direction is `scale`, so gradients do not underflow in float16
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
def _freeze_parameters(network: nn.Module) -> Iterator[None]:
    """Freeze all parameters, so that autograd stores no activations for weight gradients."""
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


def _swapped_contexts(
    pipeline: Pipeline, runs: Sequence[Run], targets: Sequence[str]
) -> dict[int, Tensor]:
    all_layers = tuple(range(pipeline.spec.n_layers))
    swapped = [
        Run(run.prompt, run.seed, SwapPrompt(all_layers, target))
        for run, target in zip(runs, targets, strict=True)
    ]
    return pipeline.prompt_encoder.encode_batch(swapped, is_guided=False).contexts


def _by_position(states: Tensor) -> Tensor:  # [n, channels, positions]
    """Return a layer's output, [n, positions, channels] or [n, channels, h, w], channels first."""
    return states.flatten(2) if states.ndim == 4 else states.transpose(1, 2)


def _conditional_rows(start: int, value: Any) -> Any:
    """Return the rows from `start` on of each tensor in `value` that has a row per run."""
    if isinstance(value, dict):
        return {key: _conditional_rows(start, item) for key, item in value.items()}
    is_per_run = isinstance(value, Tensor) and value.ndim > 1 and len(value) == 2 * start
    return value[start:] if is_per_run else value
