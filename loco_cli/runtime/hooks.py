"""Interventions as hooks, the only ones in the house: attached on entry, gone on exit."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

from loco_cli.models.spec import CrossAttention

Hook = Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor]]


@contextmanager
def give_contexts(
    unet: nn.Module,
    layers: Sequence[CrossAttention],
    contexts: Mapping[int, Tensor],  # layer -> [batch, n_tokens, d_text]
) -> Iterator[None]:
    """
    While open, keys and values of the layers in `contexts` read those instead of the UNet's own.

    It changes the *input* of the projections, so that bias, dtype and edited weights are respected
    (LocoGen, arXiv:2405.01008, gives a window of layers another prompt in this way). A layer that
    is not among `layers` raises ValueError.
    """
    unknown = sorted(contexts.keys() - {layer.index for layer in layers})
    if unknown:
        raise ValueError(f"the UNet has no cross-attention layers {unknown}")
    with ExitStack() as hooks:
        for layer in layers:
            if layer.index in contexts:
                attention = unet.get_submodule(layer.module_path)
                for projection in layer.projections:
                    module = attention.get_submodule(projection.name)
                    hook = _reading(contexts[layer.index])
                    hooks.enter_context(module.register_forward_pre_hook(hook))
        yield


def _reading(context: Tensor) -> Hook:
    def swap(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (context,)

    return swap
