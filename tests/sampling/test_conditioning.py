"""Prompts as a pipeline gives them to its UNet."""

import pytest
import torch

from loco_cli.interventions import Run, SwapPrompt
from loco_cli.sampling.conditioning import PromptReader
from tests.pipelines import FAMILIES, running

SOURCE, TARGET = "a house in the style of van gogh", "a painting"


@pytest.fixture(params=FAMILIES)
def pipeline(request):
    return running(request.param)


def test_a_prompt_is_encoded_once(pipeline):
    """
    Every prompt is encoded by itself, when it is first read, and never again.
    """
    reader = PromptReader(pipeline.pipe, pipeline.spec)

    first = reader.read(SOURCE)
    reader.read(TARGET)

    assert reader.read(SOURCE) is first
    assert list(reader.known) == [SOURCE, TARGET]
    assert first.states.shape[0] == 77
    assert (first.pooled is None) == (pipeline.spec.family.name != "sdxl")


def test_guidance_leads_away_from_nothing(pipeline):
    """
    That is the empty prompt; SDXL says that zeros stand for it.
    """
    nothing, empty = pipeline.reader.read_nothing(), pipeline.reader.read("")

    if pipeline.spec.family.name == "sdxl":
        assert not nothing.states.any()
        assert not nothing.pooled.any()
        assert empty.states.any()
    else:
        assert nothing is empty


def test_a_context_is_made_for_layers_that_read_another_prompt(pipeline):
    """
    Only swapped layers are given a context, and those of one pattern share it.
    """
    runs = [Run(SOURCE, 0), Run(SOURCE, 0, SwapPrompt((3, 5), TARGET))]

    plain = pipeline.reader.read_batch(runs[:1], is_guided=True)
    both = pipeline.reader.read_batch(runs, is_guided=True)

    assert plain.contexts == {}
    assert list(both.contexts) == [3, 5]
    assert both.contexts[3] is both.contexts[5]
    assert both.contexts[3].shape == (4, 77, pipeline.spec.d_text)


def test_what_is_pooled_is_given_apart():
    """
    SDXL's pooled embedding is swapped beside the states; DeepFloyd pools the states it is given.
    """
    run = Run(SOURCE, 0, SwapPrompt((3,), TARGET, with_pooled=True))

    sdxl, deepfloyd = (running(name).reader for name in ("sdxl", "deepfloyd"))
    given = sdxl.read_batch([run], is_guided=False)
    pooled = deepfloyd.read_batch([run], is_guided=False)

    assert torch.equal(given.arguments["prompt_embeds"][0], sdxl.read(SOURCE).states)
    assert torch.equal(given.arguments["pooled_prompt_embeds"][0], sdxl.read(TARGET).pooled)
    assert list(given.contexts) == [3]
    # every other layer is given its own prompt back
    assert torch.equal(pooled.arguments["prompt_embeds"][0], deepfloyd.read(TARGET).states)
    assert list(pooled.contexts) == [layer for layer in range(22) if layer != 3]


def test_a_prompt_that_is_cut_off_is_no_noise(pipeline, capfd):
    """
    No advice of a library reaches the terminal.
    """
    pipeline.reader.read("a very " + "very " * 90 + "long prompt")

    assert capfd.readouterr().err == ""
