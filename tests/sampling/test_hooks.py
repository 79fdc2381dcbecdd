"""Interventions as hooks, which exist only while a block is open."""

from dataclasses import replace

import pytest
import torch

from loco_cli.families.spec import CrossAttention, TextInput
from loco_cli.interventions import FixChannels
from loco_cli.sampling.hooks import call_after_forward, fix_channels, hook_layers, replace_contexts

OWN, GIVEN = torch.ones(1, 77, 96), torch.full((1, 77, 96), 2.0)


@pytest.fixture
def unet(pipeline):
    return pipeline.pipe.unet


def hooks_of(unet):
    return [
        name
        for name, module in unet.named_modules()
        if module._forward_pre_hooks or module._forward_hooks
    ]


def attend(unet, layer, context):
    """Return the output of a layer for a picture and a context."""
    attention = unet.get_submodule(layer.module_path)
    picture = torch.linspace(-1, 1, 4 * attention.query_dim).reshape(1, 4, -1)
    with torch.no_grad():
        return attention(picture, encoder_hidden_states=context)


def test_a_named_layer_reads_the_given_context(unet, tiny):
    """Inside the block, only the named layer reads the given context."""
    eighth, ninth = tiny.spec.layers[8:10]
    answer, other_answer = attend(unet, eighth, GIVEN), attend(unet, ninth, OWN)

    with replace_contexts(unet, tiny.spec.layers, {8: GIVEN}):
        swapped, other = attend(unet, eighth, OWN), attend(unet, ninth, OWN)

    assert torch.equal(swapped, answer)
    assert not torch.equal(swapped, attend(unet, eighth, OWN))
    assert torch.equal(other, other_answer)


def test_a_given_context_reaches_keys_and_values_alone(unet, tiny):
    """A given context does not change the queries of a layer."""
    attention = unet.get_submodule(tiny.spec.module_paths[8])
    read = {}
    handles = [
        getattr(attention, name).register_forward_pre_hook(
            lambda _, args, name=name: read.update({name: args[0]})
        )
        for name in ("to_q", "to_k", "to_v")
    ]

    with replace_contexts(unet, tiny.spec.layers, {8: GIVEN}):
        attend(unet, tiny.spec.layers[8], OWN)
    for handle in handles:
        handle.remove()

    assert read["to_k"] is GIVEN
    assert read["to_v"] is GIVEN
    assert read["to_q"].shape == (1, 4, attention.query_dim)


def test_hooks_exist_only_inside_the_block(unet, tiny):
    """Each named layer has one hook inside the block, and none after it."""
    with replace_contexts(unet, tiny.spec.layers, {8: GIVEN, 0: GIVEN}):
        found = hooks_of(unet)
    assert found == [tiny.spec.module_paths[i] for i in (0, 8)]
    assert hooks_of(unet) == []


def test_a_layer_that_is_not_there_leaves_no_hook(unet, tiny):
    """A missing module and an unknown layer raise errors and leave no hook on earlier modules."""
    layers = tiny.spec.layers
    lacking = (*layers[:9], replace(layers[9], module_path="mid_block.nothing"))

    for error, given, index in ((AttributeError, lacking, 9), (ValueError, layers, 16)):
        with pytest.raises(error), replace_contexts(unet, given, {8: GIVEN, index: GIVEN}):
            pass
    assert hooks_of(unet) == []


def test_the_callback_runs_per_forward_pass():
    """The callback runs once per forward pass and does not change the output."""
    module, calls = torch.nn.Identity(), []

    with call_after_forward(module, lambda: calls.append(1)):
        answers = [module(1), module(2)]
    module(3)

    assert answers == [1, 2]
    assert calls == [1, 1]


def test_channels_are_held_for_their_run_alone(unet, tiny):
    """Channels are held at every position of one run's conditional row only."""
    path = f"{tiny.spec.module_paths[8]}.to_k"
    projection, context = unet.get_submodule(path), torch.randn(6, 77, 96)  # guided, three runs
    fixed = FixChannels(path, (3, 17), (0.5, -1.0))
    with torch.no_grad():
        before = projection(context)

        with fix_channels(unet, [(), (fixed,), ()]):
            held = projection(context)
            found = hooks_of(unet)

    expected = before.clone()
    expected[4, :, 3], expected[4, :, 17] = 0.5, -1.0
    assert torch.equal(held, expected)
    assert found == [path]
    assert hooks_of(unet) == []


class Joint(torch.nn.Module):
    """An attention over a joint sequence, which returns picture and text."""

    def forward(self, picture, encoder_hidden_states):
        return picture + encoder_hidden_states.sum(), encoder_hidden_states


def test_the_picture_of_a_tuple_is_visited():
    """In a tuple of picture and text, only the picture is visited and replaced."""
    text = TextInput("picture", "text", order="text first", has_tuple_output=True)
    layer = CrossAttention(0, "joint", (), text)
    network = torch.nn.ModuleDict({"joint": Joint()})
    seen = []

    def visit(index, module, output, rerun):
        seen.append((output, rerun(encoder_hidden_states=GIVEN)))
        return 2 * output

    with hook_layers(network, [layer], visit):
        picture, words = network["joint"](torch.zeros(4), encoder_hidden_states=OWN)

    ((output, other),) = seen
    assert torch.equal(other, 2 * output)
    assert torch.equal(picture, 2 * output)
    assert torch.equal(words, OWN)
