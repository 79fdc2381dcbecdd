"""Interventions as hooks, the only ones in the house: attached on entry, gone on exit."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from loco_cli.models.spec import CrossAttention

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@contextmanager
def give_contexts(
    unet: nn.Module,
    layers: Sequence[CrossAttention],
    contexts: Mapping[int, Tensor],  # layer -> [batch, n_tokens, d_text]
) -> Iterator[None]:
    """
    While open, keys and values of the layers in `contexts` read those instead of the UNet's own.

    A context is what the UNet hands to its layers, behind any map that they share. It changes the
    *input* of the attention, so that norm, bias, dtype and edited weights are respected (LocoGen,
    arXiv:2405.01008, gives a window of layers another prompt in this way). A layer that is not
    among `layers` raises ValueError.
    """
    unknown = sorted(contexts.keys() - {layer.index for layer in layers})
    if unknown:
        raise ValueError(f"the UNet has no cross-attention layers {unknown}")
    with ExitStack() as hooks:
        for layer in layers:
            if layer.index in contexts:
                attention = unet.get_submodule(layer.module_path)
                hook = _reading(contexts[layer.index])
                hooks.enter_context(attention.register_forward_pre_hook(hook, with_kwargs=True))
        yield


def on_every_call(module: nn.Module, tell: Callable[[], None]) -> AbstractContextManager[Any]:
    """Return a block; while it is open, `tell` is called after every forward pass of `module`."""
    return module.register_forward_hook(lambda *_: tell())


def _reading(context: Tensor) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Arguments]:
    def swap(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        return args, {**kwargs, "encoder_hidden_states": context}

    return swap
