"""Interventions as temporary module hooks, attached on entry and removed on exit."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from loco_cli.families.spec import CrossAttention
from loco_cli.interventions import FixChannels

_Arguments = tuple[tuple[Any, ...], dict[str, Any]]
RerunLayer = Callable[..., Tensor]  # keyword arguments that replace the layer's own -> its output
_Visit = Callable[[int, nn.Module, Tensor, RerunLayer], Tensor]  # returns the new output
_PICTURE_VALUES = "to_v"  # the value projection of the picture in every attention of diffusers


@contextmanager
def replace_contexts(
    unet: nn.Module,
    layers: Sequence[CrossAttention],
    contexts: Mapping[int, Tensor],  # layer -> [batch, n_tokens, d_text]
) -> Iterator[None]:
    """
    Replace the context that the keys and values of some layers read.

    A context is the text input of a layer, after the maps that all layers share. The hook changes
    the *input* of the attention, so norms, biases, dtypes and edited weights still apply. LocoGen
    (arXiv:2405.01008) gives a window of layers another prompt in this way.

    Args:
        unet: The network that owns the layers.
        layers: All layers that read the text.
        contexts: The new contexts, by layer index.

    Raises:
        ValueError: `contexts` has an index that is not in `layers`.
    """
    unknown = sorted(contexts.keys() - {layer.index for layer in layers})
    if unknown:
        raise ValueError(f"the UNet has no cross-attention layers {unknown}")
    with ExitStack() as hooks:
        for layer in layers:
            if layer.index in contexts:
                attention = unet.get_submodule(layer.module_path)
                hook = _context_hook(contexts[layer.index])
                hooks.enter_context(attention.register_forward_pre_hook(hook, with_kwargs=True))
        yield


@contextmanager
def add_noise_to_rows(
    module: nn.Module, noise: Mapping[int, tuple[Sequence[int], Tensor]]
) -> Iterator[None]:
    """
    Add noise to some rows of the output [n, n_tokens, d] of a module.

    `noise` maps a row to token positions and their noise [n_positions, d]. The noise is scaled by
    the standard deviation of the output at these positions.
    """

    def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        noisy = output.clone()
        for row, (positions, added) in noise.items():
            states = output[row, list(positions)].float()
            states = states.addcmul(added.to(states), states.std())
            noisy[row, list(positions)] = states.to(output)
        return noisy

    with module.register_forward_hook(hook):
        yield


@contextmanager
def restore_rows(
    root: nn.Module,
    restored: Mapping[str, Mapping[int, Sequence[int] | None]],
    *,
    clean: int,
) -> Iterator[None]:
    """
    Replace rows of the outputs of some modules of `root` with the row `clean`.

    `restored` maps a module path and a row to token positions, or to None for the whole row. If a
    module returns a tuple, its first element is the output. An unknown path raises AttributeError.
    """
    with ExitStack() as hooks:
        for path, rows in restored.items():
            module = root.get_submodule(path)
            hooks.enter_context(module.register_forward_hook(_copy_hook(rows, clean)))
        yield


def call_after_forward(
    module: nn.Module, callback: Callable[[], None]
) -> AbstractContextManager[Any]:
    """Call `callback` after every forward pass of a module."""
    return module.register_forward_hook(lambda *_: callback())


@contextmanager
def fix_channels(unet: nn.Module, fixed: Sequence[Sequence[FixChannels]]) -> Iterator[None]:
    """
    Hold channels of projections at fixed values, separately for each run.

    `fixed` has one entry per run. The runs are the last rows of the batch: with guidance, the
    unconditional half comes first and is not changed.
    """
    by_path: dict[str, list[tuple[int, FixChannels]]] = {}
    for row, of_run in enumerate(fixed, start=-len(fixed)):
        for change in of_run:
            by_path.setdefault(change.module_path, []).append((row, change))
    with ExitStack() as hooks:
        for path, rows in by_path.items():
            module = unet.get_submodule(path)
            hooks.enter_context(module.register_forward_hook(_channel_hook(rows)))
        yield


def _channel_hook(rows: Sequence[tuple[int, FixChannels]]) -> Callable[..., Tensor]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        fixed = output.clone()  # [batch, n_tokens, d_out]
        for row, change in rows:
            fixed[row, :, list(change.channels)] = torch.tensor(change.values).to(fixed)
        return fixed

    return hook


@contextmanager
def record_calls(module: nn.Module, record: Callable[..., None]) -> Iterator[None]:
    """Pass the arguments of every call of a module to `record`."""

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        record(*args, **kwargs)

    with module.register_forward_pre_hook(hook, with_kwargs=True):
        yield


@contextmanager
def hook_layers(unet: nn.Module, layers: Sequence[CrossAttention], visit: _Visit) -> Iterator[None]:
    """
    Call `visit` with the output of every layer, and replace the output with its result.

    `visit` gets the index of the layer, its module, its output and a function `rerun`. That
    function calls the module again without this hook: `rerun(encoder_hidden_states=context)`.
    """
    with ExitStack() as hooks:
        for layer in layers:
            attention = unet.get_submodule(layer.module_path)
            hook = _visit_hook(layer, visit)
            hooks.enter_context(attention.register_forward_hook(hook, with_kwargs=True))
        yield


@contextmanager
def zero_other_values(
    attention: nn.Module,
    layer: CrossAttention,
    tokens: Tensor,  # [batch, n_tokens, 1]
) -> Iterator[None]:
    """Scale the values of each text token by `tokens`, and set the picture's own values to zero."""
    values = attention.get_submodule(layer.projections[1].name)
    with ExitStack() as hooks:
        hooks.enter_context(values.register_forward_hook(lambda *call: call[-1] * tokens))
        if layer.text.order:  # a joint sequence, in which the picture has its own projection
            own = attention.get_submodule(_PICTURE_VALUES)
            hooks.enter_context(own.register_forward_hook(lambda *call: call[-1] * 0))
        yield


def _visit_hook(layer: CrossAttention, visit: _Visit) -> Callable[..., Any]:
    is_rerun, has_tuple = False, layer.text.has_tuple_output

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        def rerun(**replaced: Any) -> Tensor:
            result = module(*args, **{**kwargs, **replaced})
            picture: Tensor = result[0] if has_tuple else result
            return picture

        nonlocal is_rerun
        if is_rerun:
            return None
        is_rerun = True
        try:
            changed = visit(layer.index, module, output[0] if has_tuple else output, rerun)
            return (changed, *output[1:]) if has_tuple else changed
        finally:
            is_rerun = False

    return hook


def _context_hook(
    context: Tensor,
) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], _Arguments]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Arguments:
        return args, {**kwargs, "encoder_hidden_states": context}

    return hook


def _copy_hook(
    rows: Mapping[int, Sequence[int] | None], clean: int
) -> Callable[[nn.Module, tuple[Any, ...], Any], Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        states = (output[0] if isinstance(output, tuple) else output).clone()
        for row, positions in rows.items():
            if positions is None:
                states[row] = states[clean]
            else:
                states[row, list(positions)] = states[clean, list(positions)]
        return (states, *output[1:]) if isinstance(output, tuple) else states

    return hook
