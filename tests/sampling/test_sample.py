"""Generation of pictures with the shipped model: batches, seeds, progress and memory."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from loco_cli.errors import OutOfMemory
from loco_cli.interventions import Run
from loco_cli.sampling.sample import (
    choose_batch_size,
    count_unet_calls,
    sample,
    sample_batch,
    to_png,
)

SOURCE, TARGET = "a painting of a house in the style of van gogh", "a painting"
SETTINGS = {"steps": 2, "guidance": 4.0}


def one(pipeline, run, **settings):
    """Return the picture of a run in a batch of its own."""
    return sample_batch(pipeline, [run], **{**SETTINGS, **settings})[0]


def test_a_picture_depends_on_its_seed_alone(pipeline):
    """Other runs and global random state do not change a picture."""
    torch.manual_seed(1)
    first = one(pipeline, Run(SOURCE, seed=5))
    torch.manual_seed(2)
    one(pipeline, Run(TARGET, seed=6))

    again = one(pipeline, Run(SOURCE, seed=5))

    assert torch.equal(again, first)
    assert not torch.equal(one(pipeline, Run(SOURCE, seed=6)), first)


def test_ticks_add_up(pipeline):
    """The ticks add up to the number of runs times the number of steps."""
    ticks = []

    list(sample(pipeline, [Run(SOURCE, 0)] * 3, batch_size=2, tick=ticks.append, **SETTINGS))

    assert ticks == [2, 2, 1, 1]
    assert sum(ticks) == 3 * count_unet_calls(pipeline, 2)


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
        MemoryError(),
    ],
    ids=["cuda", "mps", "cpu", "python"],
)
def test_memory_that_runs_out_is_one_sentence(pipeline, error, golden):
    """Every allocator's error becomes one error with the batch size and a way out."""

    def fail(n):
        raise error

    with golden.raises(OutOfMemory, "batch of 2", "--batch-size"):
        sample_batch(pipeline, [Run(SOURCE, 0), Run(SOURCE, 1)], tick=fail, **SETTINGS)
    with golden.raises(OutOfMemory, "batch of 1", "--dtype"):
        sample_batch(pipeline, [Run(SOURCE, 0)], tick=fail, **SETTINGS)


def test_a_batch_that_does_not_fit_is_halved(pipeline):
    """A batch that does not fit is halved; pictures and their order stay the same."""
    runs, most = [Run(SOURCE, seed) for seed in range(5)], 2
    sizes = []

    def fit(n):
        sizes.append(n)
        if n > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    made = list(sample(pipeline, runs, batch_size=5, tick=fit, steps=1, guidance=4.0))
    whole = sample_batch(pipeline, runs, steps=1, guidance=4.0)

    torch.testing.assert_close(torch.stack(made), whole, rtol=0, atol=1e-3)
    assert sizes == [5, 2, 2, 1]
    most = 0
    with pytest.raises(OutOfMemory):
        list(sample(pipeline, runs, batch_size=5, tick=fit, steps=1, guidance=4.0))


def test_other_errors_pass_through(pipeline):
    """Other errors are not reported as a lack of memory."""

    def fail(n):
        raise RuntimeError("sizes do not match")

    with pytest.raises(RuntimeError, match="sizes do not match"):
        sample_batch(pipeline, [Run(SOURCE, 0)], tick=fail, **SETTINGS)


def test_batches_fill_a_cpu(pipeline):
    """On a CPU, `auto` is 64 pictures of 16 x 16 latent pixels."""
    assert choose_batch_size("auto", pipeline) == 64
    assert choose_batch_size(7, pipeline) == 7


def test_png_keeps_every_pixel():
    """A PNG preserves 8-bit pixel values exactly."""
    pixels = torch.arange(48).reshape(3, 4, 4) * 5

    png = to_png(pixels / 255)

    image = np.array(Image.open(io.BytesIO(png)))
    assert np.array_equal(image, pixels.permute(1, 2, 0).numpy())
