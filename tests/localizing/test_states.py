"""The states of every family: complete, in execution order, and each with an effect."""

import pytest
import torch
from diffusers.models.attention import Attention, FeedForward
from diffusers.models.resnet import ResnetBlock2D

from loco_cli.commands import localize
from loco_cli.errors import RequestError
from loco_cli.interventions import TracedBatch
from loco_cli.localizing import causal_trace
from loco_cli.localizing.states import states_of, traced_prompts
from loco_cli.recipe.catalog import read_recipe
from loco_cli.recipe.load import Override
from loco_cli.report.sentences import plan_lines
from loco_cli.sampling.traced import _path_in_memory, sample_traced
from tests.pipelines import FAMILIES, located, running

EVERY = pytest.mark.parametrize("name", FAMILIES)
KINDS = Attention | FeedForward | ResnetBlock2D
BLOCKS = ("down_blocks.", "mid_block.", "up_blocks.")


def recipe_of(name="tiny", **settings):
    given = {"method": "causal-trace", "seeds": 1, "steps": 2, "noise": 10.0, **settings}
    return read_recipe(
        "van gogh style",
        sources=("a house in the style of {subject}",),
        overrides=[
            Override("model", str(located(name).path), "--model"),
            *(Override(f"localize.{key}", value, f"--{key}") for key, value in given.items()),
        ],
    )


def trials(name, **settings):
    recipe = recipe_of(name, **settings)
    return causal_trace._plan_trials(
        traced_prompts(located(name), recipe.edits[0]),
        seeds=(0,),
        states=states_of(located(name), recipe.localize.component or "text-encoder"),
        level=recipe.localize.noise,
    )


def call_order(pipeline, run):
    """Return the paths of the UNet's states in the order of their calls."""
    called, handles = [], []
    for path, module in pipeline.pipe.unet.named_modules():
        if path.startswith(BLOCKS) and isinstance(module, KINDS):
            watch = module.register_forward_hook(lambda *_, path=path: called.append(path))
            handles.append(watch)
    sample_traced(pipeline, TracedBatch(run, (run,)), steps=1, guidance=1.0)
    for handle in handles:
        handle.remove()
    return called


@EVERY
def test_states_of_the_unet_follow_execution(name):
    """Every attention, feed-forward and resnet is a state, in execution order."""
    states = states_of(located(name), "unet")
    called = call_order(running(name), trials(name)[0].run)

    paths = [state.module_path for state in states]
    assert paths == called[: len(paths)]
    assert set(paths) == set(called)
    crossed = [state.module_path for state in states if state.kind == "cross-attention"]
    assert crossed == list(located(name).spec.module_paths)


@EVERY
def test_states_of_encoders_are_attention_and_mlp(name):
    """Every block of each text encoder has two states, and their modules exist."""
    states, n_blocks = states_of(located(name), "text-encoder"), 0
    for encoder in located(name).spec.context.encoders:
        module = getattr(running(name).pipe, encoder.component)
        n_blocks += getattr(module.config, "num_layers", 0) or module.config.num_hidden_layers
        for state in states:
            if state.component == encoder.component:
                assert module.get_submodule(_path_in_memory(module, state.module_path))

    assert len(states) == 2 * n_blocks
    assert {state.kind for state in states} == {"self-attention", "mlp"}


@EVERY
@pytest.mark.parametrize("component", ["unet", "text-encoder"])
def test_noise_and_every_kind_of_state_change_the_picture(name, component):
    """Noise changes the picture, and so does the first state of each kind."""
    planned = trials(name, component=component)
    firsts = {}
    for trial in planned:
        if trial.state and (trial.span is None or trial.span.label == "last subject"):
            firsts.setdefault((trial.state.component, trial.state.kind), trial.run)
    clean, corrupted = planned[0].run, planned[1].run

    pictures = sample_traced(
        running(name),
        TracedBatch(clean, (clean, corrupted, *firsts.values())),
        steps=2,
        guidance=4.0,
    )

    assert torch.isfinite(pictures).all()
    assert not torch.equal(pictures[0], pictures[1])
    assert all(not torch.equal(pictures[1], restored) for restored in pictures[2:])


def test_a_bidirectional_encoder_is_traced_at_every_token():
    """In T5, noise reaches the tokens before the subject, so each span has its own run."""
    planned = trials("deepfloyd")

    assert len({trial.run for trial in planned}) == len(planned)


@pytest.mark.parametrize(("batch_size", "n_drawn"), [(None, 142), (8, 82)])
def test_the_cost_counts_the_clean_run_of_each_batch(batch_size, n_drawn):
    """The cost is exact for a known batch size, else that of the smallest batch."""
    recipe = recipe_of(component="unet")

    price, _ = causal_trace.cost(located("tiny"), recipe, batch_size=batch_size)

    assert price.n_pictures == 2 + len(states_of(located("tiny"), "unet")) == 72
    assert price.unet_evaluations == n_drawn * 2 * 2


def test_causal_tracing_refuses_options_of_a_swap(golden):
    """A pooled embedding and a noise of zero are refused."""
    for name, settings in (("--pooled", {"pooled": True}), ("--noise", {"noise": 0.0})):
        with golden.raises(RequestError, name):
            causal_trace.check(located("tiny"), recipe_of(**settings))


def test_a_plan_counts_states(golden):
    """A dry run announces states and the cost of finding them."""
    golden("\n".join(plan_lines(localize.plan(recipe_of()).document())[1:]))
