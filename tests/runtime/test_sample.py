"""Runs to pictures: the laws of LocoGen's intervention, held on the model that ships."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from loco_cli.interventions import Run, SwapPrompt
from loco_cli.layers import sliding_windows
from loco_cli.runtime.sample import (
    choose_batch_size,
    count_steps,
    sample,
    sample_batch,
    to_png,
)

SOURCE, TARGET = "a painting of a house in the style of van gogh", "a painting"
ALL = tuple(range(16))
SETTINGS = {"steps": 2, "guidance": 4.0}


def swapping(layers, seed=0):
    return Run(SOURCE, seed, SwapPrompt(tuple(layers), TARGET))


def one(pipeline, run, **settings):
    """Return the picture of a run that is alone in its batch."""
    return sample_batch(pipeline, [run], **{**SETTINGS, **settings})[0]


def test_swapping_all_layers_is_the_target_prompt(pipeline):
    """
    With every layer swapped the picture is the target prompt's, bit for bit.
    """
    assert torch.equal(one(pipeline, swapping(ALL)), one(pipeline, Run(TARGET, 0)))


def test_swapping_no_layer_is_the_source_prompt(pipeline):
    """
    With no layer swapped the picture is the source prompt's, bit for bit.
    """
    assert torch.equal(one(pipeline, swapping(())), one(pipeline, Run(SOURCE, 0)))


def test_the_laws_hold_without_guidance(pipeline):
    """
    A run without guidance has no unconditional half, and is swapped all the same.
    """
    swapped = one(pipeline, swapping(ALL), guidance=1.0)

    assert torch.equal(swapped, one(pipeline, Run(TARGET, 0), guidance=1.0))
    assert not torch.equal(swapped, one(pipeline, Run(SOURCE, 0), guidance=1.0))


def test_swapping_some_layers_is_neither(pipeline):
    """
    A window in between changes the picture, and not into the target prompt's.
    """
    swapped = one(pipeline, swapping(range(4, 12)))

    assert not torch.equal(swapped, one(pipeline, Run(SOURCE, 0)))
    assert not torch.equal(swapped, one(pipeline, Run(TARGET, 0)))


def test_a_batch_of_windows_equals_them_one_by_one(pipeline):
    """
    Windows, prompts and seeds that ride together give what each gives alone, within 1e-4.
    """
    windows = [tuple(window) for window in sliding_windows(16, 5)]
    runs = [swapping(layers, seed) for seed in (0, 3) for layers in (*windows[::3], (), ALL)]
    runs.append(Run("a photo of a cat", 7))

    together = sample_batch(pipeline, runs, **SETTINGS)

    for run, picture in zip(runs, together, strict=True):
        torch.testing.assert_close(picture, one(pipeline, run), rtol=0, atol=1e-4)


def test_only_the_conditional_half_is_swapped(pipeline, tiny):
    """
    Swapped layers read the empty prompt on the unconditional half, and the target on the other.
    """
    seen = []
    module = pipeline.pipe.unet.get_submodule(tiny.spec.module_paths[8]).to_k
    handle = module.register_forward_hook(lambda module, args, output: seen.append(args[0]))

    one(pipeline, swapping((8,)))
    handle.remove()

    assert len(seen) == 2  # steps
    for context in seen:
        assert torch.equal(context, pipeline.encode(["", TARGET]))


def test_a_picture_depends_on_its_seed_alone(pipeline):
    """
    Neither the runs before it nor the state of any random generator changes a picture.
    """
    torch.manual_seed(1)
    first = one(pipeline, Run(SOURCE, seed=5))
    torch.manual_seed(2)
    one(pipeline, Run(TARGET, seed=6))

    again = one(pipeline, Run(SOURCE, seed=5))

    assert torch.equal(again, first)
    assert not torch.equal(one(pipeline, Run(SOURCE, seed=6)), first)


def test_runs_come_back_in_order(pipeline):
    """
    Batches of any size give the same pictures in the order of the runs.
    """
    runs = [Run(SOURCE, seed) for seed in range(3)]

    by_two = list(sample(pipeline, runs, batch_size=2, **SETTINGS))

    assert [picture.shape for picture in by_two] == [(3, 64, 64)] * 3
    for run, picture in zip(runs, by_two, strict=True):
        torch.testing.assert_close(picture, one(pipeline, run), rtol=0, atol=1e-4)


def test_every_step_of_every_run_is_told(pipeline):
    """
    The ticks add up to runs times steps, so that progress ends at its total.
    """
    ticks = []

    list(sample(pipeline, [Run(SOURCE, 0)] * 3, batch_size=2, tick=ticks.append, **SETTINGS))

    assert ticks == [2, 2, 1, 1]
    assert sum(ticks) == 3 * count_steps(pipeline, 2)


def test_no_hook_is_left_by_a_run_that_breaks(pipeline):
    """
    An interrupt in the middle of sampling leaves the UNet without hooks.
    """

    def interrupt(n):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample_batch(pipeline, [swapping((8, 9))], tick=interrupt, **SETTINGS)

    assert not any(module._forward_pre_hooks for module in pipeline.pipe.unet.modules())


def test_pictures_are_between_0_and_1(pipeline):
    """
    A picture is [3, h, w] of numbers from 0 to 1.
    """
    picture = one(pipeline, Run(SOURCE, 0))

    assert picture.min() >= 0
    assert picture.max() <= 1


def test_batches_fill_a_cpu(pipeline):
    """
    A batch is 64 pictures of 16 x 16 latent pixels, or what the user says.
    """
    assert choose_batch_size("auto", pipeline) == 64
    assert choose_batch_size(7, pipeline) == 7


def test_png_keeps_every_pixel():
    """
    A picture of whole colour values survives as it is.
    """
    pixels = torch.arange(48).reshape(3, 4, 4) * 5

    png = to_png(pixels / 255)

    image = np.array(Image.open(io.BytesIO(png)))
    assert np.array_equal(image, pixels.permute(1, 2, 0).numpy())
