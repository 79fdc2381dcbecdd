"""Interventions are hooks that are there while a block is open, and never after."""

import pytest
import torch

from loco_cli.runtime.hooks import give_contexts


class Interrupted(Exception):
    """Something that goes wrong inside."""


@pytest.fixture
def unet(pipeline):
    return pipeline.pipe.unet


def hooks_of(unet):
    return [name for name, module in unet.named_modules() if module._forward_pre_hooks]


def keys_of(unet, layer, context):
    """Return what the key projection of a layer answers to a context."""
    module = unet.get_submodule(layer.module_path).to_k
    with torch.no_grad():
        return module(context)


def test_a_named_layer_reads_the_given_context(unet, tiny):
    """
    Inside, a projection of a named layer answers to the given context, the others to their own.
    """
    own, given = torch.ones(1, 77, 96), torch.full((1, 77, 96), 2.0)
    before = [keys_of(unet, layer, given) for layer in tiny.spec.layers]

    with give_contexts(unet, tiny.spec.layers, {8: given}):
        swapped = keys_of(unet, tiny.spec.layers[8], own)
        other = keys_of(unet, tiny.spec.layers[9], own)

    assert torch.equal(swapped, before[8])
    assert not torch.equal(other, before[9])


def test_hooks_are_on_keys_and_values_alone(unet, tiny):
    """
    Two projections a layer carry a hook, and nothing else of the UNet does.
    """
    context = torch.zeros(1, 77, 96)

    with give_contexts(unet, tiny.spec.layers, {8: context, 0: context}):
        found = hooks_of(unet)

    paths = [tiny.spec.module_paths[i] for i in (0, 8)]
    assert found == [f"{path}.{end}" for path in paths for end in ("to_k", "to_v")]


def test_hooks_are_gone_at_the_end(unet, tiny):
    """
    Nothing is left on the UNet when the block is left.
    """
    with give_contexts(unet, tiny.spec.layers, {8: torch.zeros(1, 77, 96)}):
        pass

    assert hooks_of(unet) == []


def test_hooks_are_gone_after_an_exception(unet, tiny):
    """
    Nothing is left on the UNet when the block breaks.
    """
    context = torch.zeros(1, 77, 96)

    with pytest.raises(Interrupted), give_contexts(unet, tiny.spec.layers, {8: context}):
        raise Interrupted

    assert hooks_of(unet) == []


def test_a_layer_that_is_not_there_leaves_no_hook(unet, tiny):
    """
    A UNet that lacks one of the modules is left as it was, the modules before it included.
    """
    from dataclasses import replace

    layers = (*tiny.spec.layers[:9], replace(tiny.spec.layers[9], module_path="mid_block.nothing"))
    context = torch.zeros(1, 77, 96)

    with pytest.raises(AttributeError), give_contexts(unet, layers, {8: context, 9: context}):
        pass

    assert hooks_of(unet) == []


def test_an_unknown_layer_is_refused(unet, tiny):
    """
    A context for a layer that the model has not is misuse, not a run without an intervention.
    """
    with (
        pytest.raises(ValueError, match=r"no cross-attention layers \[16\]"),
        give_contexts(unet, tiny.spec.layers, {16: torch.zeros(1, 77, 96)}),
    ):
        pass
