"""The conditioning that prompts give a UNet."""

import pytest
import torch

from loco_cli.interventions import Run, SwapPrompt
from loco_cli.sampling.conditioning import PromptEncoder
from tests.pipelines import FAMILIES, running

SOURCE, TARGET = "a house in the style of van gogh", "a painting"


@pytest.fixture(params=FAMILIES)
def pipeline(request):
    return running(request.param)


def test_a_prompt_is_encoded_once(pipeline):
    """Each prompt is encoded alone and only once."""
    reader = PromptEncoder(pipeline.pipe, pipeline.spec)

    first = reader.encode(SOURCE)
    reader.encode(TARGET)

    assert reader.encode(SOURCE) is first
    assert list(reader.conditionings) == [SOURCE, TARGET]
    assert first.states.shape[0] == 77
    assert (first.pooled is None) == (pipeline.spec.family.name != "sdxl")


def test_the_negative_conditioning(pipeline):
    """The negative conditioning is the empty prompt, and zeros in SDXL."""
    nothing, empty = pipeline.prompt_encoder.encode_negative(), pipeline.prompt_encoder.encode("")

    if pipeline.spec.family.name == "sdxl":
        assert not nothing.states.any()
        assert not nothing.pooled.any()
        assert empty.states.any()
    else:
        assert nothing is empty


def test_a_context_is_made_for_layers_that_read_another_prompt(pipeline):
    """Only swapped layers get a context, and layers with equal prompts share it."""
    runs = [Run(SOURCE, 0), Run(SOURCE, 0, SwapPrompt((3, 5), TARGET))]

    plain = pipeline.prompt_encoder.encode_batch(runs[:1], is_guided=True)
    both = pipeline.prompt_encoder.encode_batch(runs, is_guided=True)

    assert plain.contexts == {}
    assert list(both.contexts) == [3, 5]
    assert both.contexts[3] is both.contexts[5]
    assert both.contexts[3].shape == (4, 77, pipeline.spec.d_text)


def test_the_pooled_prompt_is_swapped():
    """SDXL gets a swapped pooled embedding, and DeepFloyd pools the states of its argument."""
    run = Run(SOURCE, 0, SwapPrompt((3,), TARGET, with_pooled=True))

    sdxl, deepfloyd = (running(name).prompt_encoder for name in ("sdxl", "deepfloyd"))
    given = sdxl.encode_batch([run], is_guided=False)
    pooled = deepfloyd.encode_batch([run], is_guided=False)

    assert torch.equal(given.arguments["prompt_embeds"][0], sdxl.encode(SOURCE).states)
    assert torch.equal(given.arguments["pooled_prompt_embeds"][0], sdxl.encode(TARGET).pooled)
    assert list(given.contexts) == [3]
    # every other layer is given its own prompt back
    assert torch.equal(pooled.arguments["prompt_embeds"][0], deepfloyd.encode(TARGET).states)
    assert list(pooled.contexts) == [layer for layer in range(22) if layer != 3]


def test_a_truncated_prompt_is_silent(pipeline, capfd):
    """Encoding a truncated prompt prints no warning."""
    pipeline.prompt_encoder.encode("a very " + "very " * 90 + "long prompt")

    assert capfd.readouterr().err == ""
