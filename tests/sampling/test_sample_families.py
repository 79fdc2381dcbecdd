"""The laws of LocoGen's intervention, on a small model of every family."""

from itertools import combinations

import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionXLPipeline

from loco_cli.families import registry
from loco_cli.interventions import Run, SwapPrompt
from loco_cli.models.encoders import encoder_of
from loco_cli.models.session import RunOptions, load_model
from loco_cli.sampling.conditioning import PromptEncoder
from loco_cli.sampling.pipeline import Pipeline
from loco_cli.sampling.quiet import errors_only
from loco_cli.sampling.sample import sample_batch
from tests.pipelines import FAMILIES, located, running

SOURCE, TARGET = "a house in the style of van gogh", "a painting"
SETTINGS = {"steps": 2, "guidance": 4.0}
POOLING = ("sdxl", "deepfloyd")  # read their prompt past the layers, too

pooling_only = pytest.mark.parametrize("pipeline", POOLING, indirect=True)


@pytest.fixture(params=FAMILIES)
def pipeline(request):
    return running(request.param)


def swapping(layers, seed=0, *, pooled=False):
    return Run(SOURCE, seed, SwapPrompt(tuple(layers), TARGET, pooled))


def every_layer(pipeline):
    return range(pipeline.spec.n_layers)


def one(pipeline, run, **settings):
    """Return the picture of a run in a batch of its own."""
    return sample_batch(pipeline, [run], **{**SETTINGS, **settings})[0]


def draw(pipeline, prompt=None, **given):
    """Return the picture of each prompt, after two guided steps from seed 0."""
    if pipeline.spec.family.name == "if":
        given["clean_caption"] = False  # else the words depend on which packages are installed
    with errors_only():
        pictures = pipeline.pipe(
            prompt,
            num_inference_steps=SETTINGS["steps"],
            guidance_scale=SETTINGS["guidance"],
            generator=torch.Generator().manual_seed(0),
            output_type="pt",
            **given,
        ).images
    return pictures[0] if pipeline.has_latents else (pictures[0] / 2 + 0.5).clamp(0, 1)


@pytest.mark.parametrize("guidance", [4.0, 1.0])
def test_swapping_all_that_is_read_is_the_target_prompt(pipeline, guidance):
    """Swapping every layer and the pooled embedding gives the target picture, bit for bit."""
    swapped = one(pipeline, swapping(every_layer(pipeline), pooled=True), guidance=guidance)

    assert torch.equal(swapped, one(pipeline, Run(TARGET, 0), guidance=guidance))
    assert not torch.equal(swapped, one(pipeline, Run(SOURCE, 0), guidance=guidance))


@pytest.mark.parametrize("pooled", [False, True])
def test_swapping_no_layer_is_the_source_prompt(pipeline, pooled):
    """Swapping no layer gives the source picture, bit for bit."""
    assert torch.equal(one(pipeline, swapping((), pooled=pooled)), one(pipeline, Run(SOURCE, 0)))


@pooling_only
def test_keys_and_values_alone_leave_the_pooled_prompt(pipeline):
    """Swapping only the layers keeps the pooled embedding of the source prompt."""
    swapped = one(pipeline, swapping(every_layer(pipeline)))

    assert torch.equal(swapped, draw_pooled_apart(pipeline, TARGET, SOURCE))
    assert not torch.equal(swapped, one(pipeline, Run(TARGET, 0)))
    assert not torch.equal(swapped, one(pipeline, Run(SOURCE, 0)))


def draw_pooled_apart(pipeline, prompt, pooled):
    """Return the picture of a prompt with the pooled embedding of another, without loco's hooks."""
    reader = pipeline.prompt_encoder
    if pipeline.spec.family.name == "sdxl":
        nothing = reader.encode_negative()
        return draw(
            pipeline,
            prompt_embeds=reader.encode(prompt).states[None],
            pooled_prompt_embeds=reader.encode(pooled).pooled[None],
            negative_prompt_embeds=nothing.states[None],
            negative_pooled_prompt_embeds=nothing.pooled[None],
        )
    states = torch.stack([reader.encode("").states, reader.encode(pooled).states])
    with pipeline.pipe.unet.add_embedding.register_forward_pre_hook(lambda *_: (states,)):
        return draw(pipeline, prompt)


@pooling_only
def test_the_pooled_prompt_goes_with_every_window(pipeline):
    """Source, target, and a window with and without the pooled embedding give four pictures."""
    window = range(pipeline.spec.n_layers // 2)
    runs = (Run(SOURCE, 0), Run(TARGET, 0), swapping(window), swapping(window, pooled=True))

    pictures = [one(pipeline, run) for run in runs]

    assert not any(torch.equal(a, b) for a, b in combinations(pictures, 2))


def test_a_batch_of_windows_equals_them_one_by_one(pipeline):
    """A batch of windows, prompts and seeds gives each run's own picture within 1e-4."""
    n = pipeline.spec.n_layers
    runs = [
        swapping(range(n)),
        swapping(range(n // 3), seed=3),
        swapping(range(n // 2, n), pooled=True),
        swapping((), pooled=True),
        Run("a photo of a cat", 7),
    ]

    together = sample_batch(pipeline, runs, **SETTINGS)

    for run, picture in zip(runs, together, strict=True):
        torch.testing.assert_close(picture, one(pipeline, run), rtol=0, atol=1e-4)


def test_a_picture_is_the_one_that_diffusers_draws(pipeline):
    """A picture equals that of the pipeline's own call, bit for bit."""
    assert torch.equal(one(pipeline, Run(SOURCE, 0)), draw(pipeline, SOURCE))


def test_turbo_takes_one_step_without_guidance():
    """SDXL Turbo calls its UNet once, encodes no empty prompt, and obeys the swap laws."""
    spec, sdxl = registry.get("sdxl-turbo"), running("sdxl")
    with errors_only():
        sampler = EulerAncestralDiscreteScheduler.from_pretrained(
            registry.config_folder(spec) / "scheduler"
        )
    pipe = StableDiffusionXLPipeline(
        **{**sdxl.pipe.components, "scheduler": sampler}, add_watermarker=False
    )
    pipe.set_progress_bar_config(disable=True)
    turbo = Pipeline(pipe, sdxl.spec, PromptEncoder(pipe, sdxl.spec))
    settings = dict(zip(("steps", "guidance"), spec.sampling(None, None), strict=True))
    ticks = []

    target = one(turbo, Run(TARGET, 0), tick=ticks.append, **settings)

    assert ticks == [1]
    assert torch.equal(one(turbo, swapping(every_layer(turbo), pooled=True), **settings), target)
    assert turbo.prompt_encoder.conditionings.keys() == {SOURCE, TARGET}


def test_half_precision_is_silent(capfd):
    """SDXL in float16 upcasts its VAE without a warning."""
    half = load_model(located("sdxl"), RunOptions(device="cpu", dtype="float16"))

    target = one(half, Run(TARGET, 0))
    swapped = one(half, swapping(every_layer(half), pooled=True))

    assert target.isfinite().all()
    assert torch.equal(swapped, target)
    assert capfd.readouterr().err == ""


def test_pictures_and_edits_read_the_same_embeddings(pipeline, request):
    """Edits and pictures use equal embeddings, up to rounding."""
    name = request.node.callspec.params["pipeline"]

    (encoded,) = encoder_of(located(name)).encode([SOURCE])

    torch.testing.assert_close(
        encoded.states, pipeline.prompt_encoder.encode(SOURCE).states, rtol=1e-4, atol=1e-5
    )


def test_only_the_conditional_half_is_swapped(pipeline):
    """A swapped layer reads the negative prompt on one half and the target on the other."""
    layer, reader = pipeline.spec.layers[8], pipeline.prompt_encoder
    attention = pipeline.pipe.unet.get_submodule(layer.module_path)
    seen = []
    handle = attention.get_submodule(layer.projections[0].name).register_forward_hook(
        lambda module, args, output: seen.append(args[0])
    )

    one(pipeline, swapping((8,)))
    handle.remove()

    context = torch.stack([reader.encode_negative().states, reader.encode(TARGET).states])
    if pipeline.spec.family.name == "if":
        context = attention.norm_encoder_hidden_states(pipeline.pipe.unet.encoder_hid_proj(context))
    assert len(seen) == SETTINGS["steps"]
    assert all(torch.equal(one_seen, context) for one_seen in seen)


def test_no_hook_is_left_by_a_run_that_breaks(pipeline):
    """An interrupted run leaves no hooks on the UNet."""

    def interrupt(n):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample_batch(pipeline, [swapping((8, 9), pooled=True)], tick=interrupt, **SETTINGS)

    hooks = [
        hook
        for module in pipeline.pipe.unet.modules()
        for hook in (*module._forward_pre_hooks, *module._forward_hooks)
    ]
    assert hooks == []
