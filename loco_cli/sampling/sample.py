"""Runs to pictures: many prompts, seeds and interventions in one batch of the real pipeline."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from PIL import Image
from torch import Tensor

from loco_cli.errors import OutOfMemory
from loco_cli.events import Tick
from loco_cli.interventions import Run
from loco_cli.sampling.hooks import call_after_forward, fix_channels, replace_contexts
from loco_cli.sampling.pipeline import Pipeline
from loco_cli.sampling.quiet import errors_only

_PIXELS_PER_BATCH = 64 * 256  # latent pixels that one UNet call takes on a CPU
_BYTES_PER_PIXEL = 256 * 1024  # of memory for a latent pixel on an NVIDIA card: 1 GiB for 64 x 64
# CUDA's and Metal's words, and those of the CPU's allocator
_NO_MEMORY = re.compile(r"out of memory|not enough memory|can't allocate memory", re.IGNORECASE)


def choose_batch_size(batch_size: str | int, pipeline: Pipeline) -> int:
    """
    Return how many runs share a UNet call.

    `auto` fills a CPU's caches, not its memory, and the free memory of an NVIDIA card.
    """
    if batch_size != "auto":
        return int(batch_size)
    pixels = pipeline.network.config.sample_size**2
    if pipeline.pipe.device.type != "cuda":
        return max(1, _PIXELS_PER_BATCH // pixels)
    free_bytes, _ = torch.cuda.mem_get_info(pipeline.pipe.device)
    n_fitting = max(1, free_bytes // (_BYTES_PER_PIXEL * pixels))
    return 1 << (int(n_fitting).bit_length() - 1)  # so that a few bytes change no score


def count_unet_calls(pipeline: Pipeline, steps: int) -> int:
    """Return how often the UNet is called for a picture of `steps`; some schedulers add one."""
    scheduler = pipeline.pipe.scheduler
    with errors_only():
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
    same in every batch up to rounding, and the same bit for bit at the same batch size. A batch
    for which there is no memory is halved, and so are those after it.
    """
    start = 0
    while start < len(runs):
        batch = runs[start : start + batch_size]
        try:
            images = sample_batch(pipeline, batch, steps=steps, guidance=guidance, tick=tick)
        except OutOfMemory:
            if len(batch) == 1:
                raise
            batch_size = len(batch) // 2
            _free_memory()
            continue
        yield from images
        start += len(batch)


def _free_memory() -> None:
    """Give back what a failed batch has left on an NVIDIA card."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@torch.no_grad()
def sample_batch(
    pipeline: Pipeline,
    runs: Sequence[Run],
    *,
    steps: int,
    guidance: float,
    tick: Tick = lambda n: None,
) -> Tensor:  # [n, 3, h, w], 0 to 1
    """Return the pictures of some runs, made together; raises OutOfMemory without memory."""
    given = pipeline.prompt_encoder.encode_batch(runs, is_guided=pipeline.is_guided(guidance))
    network, seeds = pipeline.network, [run.seed for run in runs]
    with (
        replace_contexts(network, pipeline.spec.layers, given.contexts),
        fix_channels(network, [run.fixed for run in runs]),
    ):
        return draw(pipeline, given.arguments, seeds, steps=steps, guidance=guidance, tick=tick)


def draw(
    pipeline: Pipeline,
    arguments: Mapping[str, Tensor],
    seeds: Sequence[int],
    *,
    steps: int,
    guidance: float,
    tick: Tick = lambda n: None,
) -> Tensor:  # [n, 3, h, w], 0 to 1
    """Return a picture per seed of what the pipeline is given; raises OutOfMemory."""
    with (
        call_after_forward(pipeline.network, lambda: tick(len(seeds))),
        _told_of_memory(len(seeds)),
        errors_only(),
    ):
        output = pipeline.pipe(
            **arguments,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            num_inference_steps=steps,
            guidance_scale=guidance,
            output_type="pt",
        )
    # without a VAE the pipeline hands out what its UNet made, from -1 to 1
    images = output.images if pipeline.has_latents else (output.images / 2 + 0.5).clamp(0, 1)
    return images.float().cpu()


def to_png(image: Tensor) -> bytes:  # [3, h, w], 0 to 1
    """Return a picture as PNG bytes."""
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    buffer = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(buffer, "PNG")
    return buffer.getvalue()


@contextmanager
def _told_of_memory(n_pictures: int) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and not _NO_MEMORY.search(str(error)):
            raise
        smaller = "pass a smaller `--batch-size`" if n_pictures > 1 else "use `--dtype float16`"
        raise OutOfMemory(
            f"the device has no memory for {n_pictures} pictures at a time", smaller
        ) from error
