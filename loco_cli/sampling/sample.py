"""Generation of pictures: batches of prompts, seeds and interventions in the real pipeline."""

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

_CPU_PIXELS_PER_BATCH = 64 * 256  # latent pixels of one UNet call that fit into CPU caches
_GPU_BYTES_PER_PIXEL = 256 * 1024  # memory for one latent pixel: 1 GiB for 64 x 64 pixels
# the messages of CUDA, of Metal and of the CPU allocator
_OUT_OF_MEMORY = re.compile(r"out of memory|not enough memory|can't allocate memory", re.IGNORECASE)


def choose_batch_size(batch_size: str | int, pipeline: Pipeline) -> int:
    """
    Return the number of runs that share a UNet call.

    Args:
        batch_size: A number, or `auto` to fill the caches of a CPU or the free memory of a GPU.
        pipeline: The pipeline that will generate the pictures.
    """
    if batch_size != "auto":
        return int(batch_size)
    pixels = pipeline.network.config.sample_size**2
    if pipeline.pipe.device.type != "cuda":
        return max(1, _CPU_PIXELS_PER_BATCH // pixels)
    free_bytes, _ = torch.cuda.mem_get_info(pipeline.pipe.device)
    n_fitting = max(1, free_bytes // (_GPU_BYTES_PER_PIXEL * pixels))
    # scores depend on the batch size, and a power of two does not change with a few free bytes
    return 1 << (int(n_fitting).bit_length() - 1)


def count_unet_calls(pipeline: Pipeline, steps: int) -> int:
    """Return the number of UNet calls per picture; some schedulers add one to `steps`."""
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

    The noise of a run depends only on its seed and comes from the CPU. Pictures are therefore equal
    in all batches up to rounding, and bit for bit at equal batch sizes. If a batch does not fit
    into memory, it is halved, and so are all later batches.

    Args:
        pipeline: The pipeline that generates the pictures.
        runs: The runs, each with prompt, seed and interventions.
        steps: The number of denoising steps.
        guidance: The scale of classifier-free guidance.
        batch_size: The number of runs per batch, as `choose_batch_size` returns it.
        tick: Called after each UNet call with the number of pictures in the batch.

    Yields:
        Pictures [3, h, w] with values from 0 to 1.

    Raises:
        OutOfMemory: A batch of one run does not fit into memory.
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
    """Free the GPU memory that a failed batch has left allocated."""
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
    """Return the pictures of one batch of runs; raises OutOfMemory if it does not fit."""
    conditioning = pipeline.prompt_encoder.encode_batch(
        runs, is_guided=pipeline.is_guided(guidance)
    )
    network, seeds = pipeline.network, [run.seed for run in runs]
    with (
        replace_contexts(network, pipeline.spec.layers, conditioning.contexts),
        fix_channels(network, [run.fixed for run in runs]),
    ):
        arguments = conditioning.arguments
        return run_pipeline(pipeline, arguments, seeds, steps=steps, guidance=guidance, tick=tick)


def run_pipeline(
    pipeline: Pipeline,
    arguments: Mapping[str, Tensor],
    seeds: Sequence[int],
    *,
    steps: int,
    guidance: float,
    tick: Tick = lambda n: None,
) -> Tensor:  # [n, 3, h, w], 0 to 1
    """Return one picture per seed; raises OutOfMemory if the batch does not fit."""
    with (
        call_after_forward(pipeline.network, lambda: tick(len(seeds))),
        _out_of_memory_errors(len(seeds)),
        errors_only(),
    ):
        output = pipeline.pipe(
            **arguments,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            num_inference_steps=steps,
            guidance_scale=guidance,
            output_type="pt",
        )
    # without a VAE, the pipeline returns the output of its UNet, from -1 to 1
    images = output.images if pipeline.has_latents else (output.images / 2 + 0.5).clamp(0, 1)
    return images.float().cpu()


def to_png(image: Tensor) -> bytes:  # [3, h, w], 0 to 1
    """Return a picture as PNG bytes."""
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    buffer = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(buffer, "PNG")
    return buffer.getvalue()


@contextmanager
def _out_of_memory_errors(n_pictures: int) -> Iterator[None]:
    """Convert the errors of all allocators to OutOfMemory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and not _OUT_OF_MEMORY.search(str(error)):
            raise
        smaller = "pass a smaller `--batch-size`" if n_pictures > 1 else "use `--dtype float16`"
        raise OutOfMemory(
            f"the device does not have enough memory for a batch of {n_pictures}", smaller
        ) from error
