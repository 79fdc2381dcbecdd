"""Estimates of layer effects, compared with their equations."""

from dataclasses import replace

import pytest
import torch

from loco_cli.interventions import Run, SwapPrompt
from loco_cli.sampling.hooks import hook_layers, replace_contexts
from loco_cli.sampling.probe import attribution_shares, contribution_norms, record_trajectory
from loco_cli.sampling.sample import sample_batch
from tests.pipelines import FAMILIES, running

SOURCES, TARGETS = ["a cat by monet", "a dog by monet"], ["a cat", "a dog"]
RUNS = [Run(prompt, 0) for prompt in SOURCES]


@pytest.fixture(scope="module", params=FAMILIES)
def followed(request):
    pipeline = running(request.param)
    return pipeline, record_trajectory(pipeline, RUNS, steps=3, guidance=3.0)


def test_recording_changes_no_picture(followed):
    """Recording a trajectory does not change the pictures."""
    pipeline, (path, images) = followed

    assert torch.equal(images, sample_batch(pipeline, RUNS, steps=3, guidance=3.0))
    assert all(len(step.sample) == len(RUNS) for step in path.steps)
    assert path.evenly_spaced(100) == path.steps


def test_a_replay_is_the_conditional_half(followed):
    """A replayed step gives the prediction of the conditional half."""
    pipeline, (path, _) = followed
    unguided, _ = record_trajectory(pipeline, RUNS, steps=3, guidance=1.0)

    with torch.no_grad():
        first, other = (one.steps[0].call(pipeline.pipe.unet) for one in (path, unguided))

    torch.testing.assert_close(first, other, rtol=1e-4, atol=1e-5)


def test_shares_are_means_of_sizes(followed):
    """The share of a layer is the mean of its absolute values over the steps."""
    pipeline, (path, _) = followed
    every = [
        attribution_shares(pipeline, replace(path, steps=[step]), TARGETS, 1) for step in path.steps
    ]

    both = attribution_shares(pipeline, path, TARGETS, len(path.steps))

    torch.testing.assert_close(both, torch.stack(every).mean(0), rtol=1e-3, atol=1e-5)


def test_shares_are_the_first_order_of_the_swap(followed):
    """A share equals the derivative of the prediction towards the swapped layer output."""
    pipeline, (path, _) = followed
    unet, layers = pipeline.pipe.unet, pipeline.spec.layers
    given = pipeline.prompt_encoder.encode_batch(
        [Run(run.prompt, 0, _all(pipeline, t)) for run, t in zip(RUNS, TARGETS, strict=True)],
        is_guided=False,
    ).contexts
    step, chosen, size = path.steps[1], len(layers) // 2, 1e-2

    def nudged(index, attention, output, again):
        change = again(encoder_hidden_states=given[index]) - output
        return output + (size if index == chosen else 0.0) * change

    with torch.no_grad():
        plain = step.call(unet)
        with replace_contexts(unet, layers, given):
            change = step.call(unet) - plain
        with hook_layers(unet, layers, nudged):
            moved = (step.call(unet) - plain) / size
    slope = (moved * change).flatten(1).sum(1) / change.flatten(1).pow(2).sum(1)

    path.steps[:] = [step]
    shares = attribution_shares(pipeline, path, TARGETS, n_steps=1)

    assert shares.shape == (2, len(layers))
    torch.testing.assert_close(shares[:, chosen], slope.abs(), rtol=0.1, atol=2e-3)


def test_a_contribution_is_what_the_papers_equation_says():
    """Contributions equal |W_o (A[:, tok] V[tok])|, without the bias of W_o."""
    pipeline = running("tiny")
    path, _ = record_trajectory(pipeline, RUNS, steps=2, guidance=1.0)
    tokens = torch.zeros(2, 77)
    tokens[:, 3:6] = 1
    layer = pipeline.spec.layers[8]

    found = contribution_norms(pipeline, path, tokens, n_steps=1)
    expected = _by_hand(pipeline, path.evenly_spaced(1)[0], layer, tokens)

    torch.testing.assert_close(found[:, layer.index], expected, rtol=1e-4, atol=1e-6)


def test_all_tokens_together_are_the_whole_output(followed):
    """All tokens contribute to every layer, and an empty mask contributes nothing."""
    pipeline, (path, _) = followed
    n_tokens = pipeline.prompt_encoder.encode("").states.shape[0]

    everything = contribution_norms(pipeline, path, torch.ones(2, n_tokens), n_steps=2)
    nothing = contribution_norms(pipeline, path, torch.zeros(2, n_tokens), n_steps=2)

    assert everything.shape == (2, pipeline.spec.n_layers)
    assert (everything > 0).all()
    assert not nothing.any()


def _all(pipeline, target):
    return SwapPrompt(tuple(range(pipeline.spec.n_layers)), target)


def _by_hand(pipeline, step, layer, tokens):
    attention = pipeline.pipe.unet.get_submodule(layer.module_path)
    seen = {}

    def keep(module, args, kwargs):
        seen["picture"], seen["text"] = args[0], kwargs["encoder_hidden_states"]

    with torch.no_grad(), attention.register_forward_pre_hook(keep, with_kwargs=True):
        step.call(pipeline.pipe.unet)
        queries, keys, values = (
            attention.head_to_batch_dim(x)
            for x in (
                attention.to_q(seen["picture"]),
                attention.to_k(seen["text"]),
                attention.to_v(seen["text"]),
            )
        )
        weights = attention.get_attention_scores(queries, keys)
        mask = tokens.repeat_interleave(attention.heads, 0)[..., None]
        heads = attention.batch_to_head_dim(weights @ (values * mask))
        return (heads @ attention.to_out[0].weight.T).norm(dim=-1).mean(1)
