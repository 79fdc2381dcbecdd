"""Interventions as hooks, the only ones in the house: attached on entry, gone on exit."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from loco_cli.families.spec import CrossAttention
from loco_cli.interventions import FixChannels

_Arguments = tuple[tuple[Any, ...], dict[str, Any]]
Again = Callable[..., Tensor]  # a layer's attention once more, with other keyword arguments
_Watch = Callable[[int, nn.Module, Tensor, Again], Tensor]  # of a layer's output, to its output
_PICTURE_VALUES = "to_v"  # in every attention of diffusers


@contextmanager
def replace_contexts(
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


@contextmanager
def add_noise_to_rows(
    module: nn.Module, noise: Mapping[int, tuple[Sequence[int], Tensor]]
) -> Iterator[None]:
    """
    While open, noise is added to some rows of the output [n, n_tokens, d] of a module.

    `noise` holds by row the positions and the noise [n_positions, d] for them, in standard
    deviations of what stands there.
    """

    def blur(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        changed = output.clone()
        for row, (positions, added) in noise.items():
            blurred = output[row, list(positions)].float()
            changed[row, list(positions)] = blurred.addcmul(added.to(blurred), blurred.std()).to(
                output
            )
        return changed

    with module.register_forward_hook(blur):
        yield


@contextmanager
def restore_rows(
    root: nn.Module,
    restored: Mapping[str, Mapping[int, Sequence[int] | None]],
    *,
    clean: int,
) -> Iterator[None]:
    """
    While open, rows of the outputs of some modules of `root` are those of the row `clean`.

    `restored` holds by module path and row the positions, or None for the whole row. Of a module
    that answers with several things the first is its output. A path that is not there raises
    AttributeError.
    """
    with ExitStack() as hooks:
        for path, rows in restored.items():
            module = root.get_submodule(path)
            hooks.enter_context(module.register_forward_hook(_copying(rows, clean)))
        yield


def call_after_forward(module: nn.Module, tell: Callable[[], None]) -> AbstractContextManager[Any]:
    """Return a block; while it is open, `tell` is called after every forward pass of `module`."""
    return module.register_forward_hook(lambda *_: tell())


@contextmanager
def fix_channels(unet: nn.Module, fixed: Sequence[Sequence[FixChannels]]) -> Iterator[None]:
    """
    While open, channels of projections have fixed values, run by run.

    `fixed` has an entry for each run of the batch. Their rows are the last ones, as in the guided
    batch, whose first half is unconditional and stays as it is.
    """
    by_path: dict[str, list[tuple[int, FixChannels]]] = {}
    for row, of_run in enumerate(fixed, start=-len(fixed)):
        for one in of_run:
            by_path.setdefault(one.module_path, []).append((row, one))
    with ExitStack() as hooks:
        for path, rows in by_path.items():
            module = unet.get_submodule(path)
            hooks.enter_context(module.register_forward_hook(_holding(rows)))
        yield


def _holding(rows: Sequence[tuple[int, FixChannels]]) -> Callable[..., Tensor]:
    def hold(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        held = output.clone()  # [batch, n_tokens, d_out]
        for row, one in rows:
            held[row, :, list(one.channels)] = torch.tensor(one.values).to(held)
        return held

    return hold


@contextmanager
def record_calls(module: nn.Module, keep: Callable[..., None]) -> Iterator[None]:
    """While open, `keep` is given the arguments of every call of `module`."""

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(*args, **kwargs)

    with module.register_forward_pre_hook(hook, with_kwargs=True):
        yield


@contextmanager
def hook_layers(unet: nn.Module, layers: Sequence[CrossAttention], watch: _Watch) -> Iterator[None]:
    """
    While open, `watch` sees what every layer answers, may ask it again, and may answer instead.

    It is called with the layer's index, its module, its output, and a function that calls the
    module on the same picture, unwatched: `again(encoder_hidden_states=other)`.
    """
    with ExitStack() as hooks:
        for layer in layers:
            attention = unet.get_submodule(layer.module_path)
            hook = _watching(layer, watch)
            hooks.enter_context(attention.register_forward_hook(hook, with_kwargs=True))
        yield


@contextmanager
def zero_other_values(
    attention: nn.Module,
    layer: CrossAttention,
    tokens: Tensor,  # [batch, n_tokens, 1]
) -> Iterator[None]:
    """While open, the values of all other text tokens are zero, as are the picture's own."""
    values = attention.get_submodule(layer.projections[1].name)
    with ExitStack() as hooks:
        hooks.enter_context(values.register_forward_hook(lambda *call: call[-1] * tokens))
        if layer.text.order:  # the picture stands beside the text, read by a projection of its own
            own = attention.get_submodule(_PICTURE_VALUES)
            hooks.enter_context(own.register_forward_hook(lambda *call: call[-1] * 0))
        yield


def _watching(layer: CrossAttention, watch: _Watch) -> Callable[..., Any]:
    is_asked_again, has_tuple = False, layer.text.has_tuple_output

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        def again(**other: Any) -> Tensor:
            answer = module(*args, **{**kwargs, **other})
            picture: Tensor = answer[0] if has_tuple else answer
            return picture

        nonlocal is_asked_again
        if is_asked_again:
            return None
        is_asked_again = True
        try:
            changed = watch(layer.index, module, output[0] if has_tuple else output, again)
            return (changed, *output[1:]) if has_tuple else changed
        finally:
            is_asked_again = False

    return hook


def _reading(context: Tensor) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], _Arguments]:
    def swap(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Arguments:
        return args, {**kwargs, "encoder_hidden_states": context}

    return swap


def _copying(
    rows: Mapping[int, Sequence[int] | None], clean: int
) -> Callable[[nn.Module, tuple[Any, ...], Any], Any]:
    def copy(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        states = (output[0] if isinstance(output, tuple) else output).clone()
        for row, positions in rows.items():
            if positions is None:
                states[row] = states[clean]
            else:
                states[row, list(positions)] = states[clean, list(positions)]
        return (states, *output[1:]) if isinstance(output, tuple) else states

    return copy
