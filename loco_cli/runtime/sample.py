"""Runs to pictures: many prompts, seeds and interventions in one batch of the real pipeline."""

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from loco_cli.errors import MachineError
from loco_cli.interventions import Run
from loco_cli.runtime.hooks import give_contexts
from loco_cli.runtime.pipeline import Pipeline

Tick = Callable[[int], None]  # told how many pictures came one step further
PIXELS_PER_BATCH = 64 * 256  # latent pixels that one UNet call takes on a CPU


def choose_batch_size(batch_size: str | int, pipeline: Pipeline) -> int:
    """Return how many runs share a UNet call; `auto` fills a CPU's caches, not its memory."""
    if batch_size != "auto":
        return int(batch_size)
    pixels = pipeline.pipe.unet.config.sample_size**2
    return max(1, PIXELS_PER_BATCH // pixels)


def count_steps(pipeline: Pipeline, steps: int) -> int:
    """Return how often the UNet is called for a picture of `steps`; some schedulers add one."""
    scheduler = pipeline.pipe.scheduler
    scheduler.set_timesteps(steps)
    return len(scheduler.timesteps)


def sample(
    pipeline: Pipeline,
    runs: Sequence[Run],
    *,
    steps: int,
    guidance: float,
    batch_size: int,
    tick: Tick = lambda n: None,
) -> Iterator[Tensor]:  # each [3, h, w], 0 to 1
    """
    Yield the picture of every run, in order.

    Each run has its own noise, drawn on the CPU from its seed alone, so that a picture is the
    same in every batch up to rounding, and the same bit for bit at the same batch size.
    """
    for start in range(0, len(runs), batch_size):
        yield from sample_batch(
            pipeline, runs[start : start + batch_size], steps=steps, guidance=guidance, tick=tick
        )


@torch.no_grad()
def sample_batch(
    pipeline: Pipeline,
    runs: Sequence[Run],
    *,
    steps: int,
    guidance: float,
    tick: Tick = lambda n: None,
) -> Tensor:  # [n, 3, h, w], 0 to 1
    """Return the pictures of some runs, made together; raises MachineError without memory."""
    cond = pipeline.encode([run.prompt for run in runs])  # [n, n_tokens, d_text]
    uncond = pipeline.encode([""] * len(runs))
    is_guided = guidance > 1  # as diffusers decides it

    def on_step_end(pipe: Any, step: int, time: int, kwargs: dict[str, Any]) -> dict[str, Any]:
        tick(len(runs))
        return kwargs

    contexts = _swapped_contexts(pipeline, runs, cond)
    if is_guided:
        contexts = {layer: torch.cat([uncond, own]) for layer, own in contexts.items()}
    with give_contexts(pipeline.pipe.unet, pipeline.spec.layers, contexts):
        try:
            output = pipeline.pipe(
                prompt_embeds=cond,
                negative_prompt_embeds=uncond if is_guided else None,
                generator=[torch.Generator().manual_seed(run.seed) for run in runs],
                num_inference_steps=steps,
                guidance_scale=guidance,
                output_type="pt",
                callback_on_step_end=on_step_end,
            )
        except torch.cuda.OutOfMemoryError as error:
            raise MachineError(
                f"the device has no memory for {len(runs)} pictures at a time",
                "pass a smaller `--batch-size`",
            ) from error
    return output.images.float().cpu()


def to_png(image: Tensor) -> bytes:  # [3, h, w], 0 to 1
    """Return a picture as PNG bytes."""
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    buffer = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(buffer, "PNG")
    return buffer.getvalue()


def _swapped_contexts(
    pipeline: Pipeline, runs: Sequence[Run], cond: Tensor
) -> dict[int, Tensor]:  # layer -> [n, n_tokens, d_text]
    """Return for each layer that some run swaps what each run of the batch reads there."""
    contexts: dict[int, Tensor] = {}
    for row, run in enumerate(runs):
        if run.swap is None or not run.swap.layers:
            continue
        (target,) = pipeline.encode([run.swap.prompt])
        for layer in run.swap.layers:
            contexts.setdefault(layer, cond.clone())[row] = target
    return contexts
