"""The states of every family: those that run, in the order in which they run, each of an effect."""

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
from loco_cli.sampling.traced import _in_memory, sample_traced
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
    """Return the paths of the UNet's states in the order in which they answer."""
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
def test_the_unet_s_states_are_those_that_run(name):
    """
    Every attention, feed-forward and resnet of the blocks is a state, in execution order.
    """
    states = states_of(located(name), "unet")
    called = call_order(running(name), trials(name)[0].run)

    paths = [state.module_path for state in states]
    assert paths == called[: len(paths)]
    assert set(paths) == set(called)
    crossed = [state.module_path for state in states if state.kind == "cross-attention"]
    assert crossed == list(located(name).spec.module_paths)


@EVERY
def test_the_encoders_states_are_attention_and_mlp_of_every_block(name):
    """
    Two states a block, of each encoder, and their modules are there.
    """
    states, n_blocks = states_of(located(name), "text-encoder"), 0
    for encoder in located(name).spec.context.encoders:
        module = getattr(running(name).pipe, encoder.component)
        n_blocks += getattr(module.config, "num_layers", 0) or module.config.num_hidden_layers
        for state in states:
            if state.component == encoder.component:
                assert module.get_submodule(_in_memory(module, state.module_path))

    assert len(states) == 2 * n_blocks
    assert {state.kind for state in states} == {"self-attention", "mlp"}


@EVERY
@pytest.mark.parametrize("component", ["unet", "text-encoder"])
def test_noise_and_every_kind_of_state_reach_the_picture(name, component):
    """
    In each family noise changes the picture, and so does the first state of each kind.
    """
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


def test_an_encoder_that_looks_both_ways_is_traced_at_every_token():
    """
    In T5 noise reaches the words before the subject: each of its places has a run of its own.
    """
    planned = trials("deepfloyd")

    assert len({trial.run for trial in planned}) == len(planned)


@pytest.mark.parametrize(("batch_size", "n_drawn"), [(None, 142), (8, 82)])
def test_the_price_of_the_unet_counts_the_clean_run_of_each_batch(batch_size, n_drawn):
    """
    Where the batch size is known the price is exact, else it is that of the smallest batch.
    """
    recipe = recipe_of(component="unet")

    price, _ = causal_trace.cost(located("tiny"), recipe, batch_size=batch_size)

    assert price.n_pictures == 2 + len(states_of(located("tiny"), "unet")) == 72
    assert price.unet_evaluations == n_drawn * 2 * 2


def test_a_pooled_prompt_is_not_swapped():
    """
    An option of another method is refused, before anything is loaded.
    """
    with pytest.raises(RequestError, match="swaps no prompt"):
        causal_trace.check(located("tiny"), recipe_of(pooled=True))


def test_a_plan_speaks_of_states():
    """
    The words of a dry run say what is sought.
    """
    words = plan_lines(localize.plan(recipe_of()).document())

    assert words[1].endswith("states to be found")
    assert words[-1] == "  find the states: at most 34 pictures, 136 UNet evaluations"
