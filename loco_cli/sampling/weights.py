"""Temporary weights: an edit or a LoRA applied in memory and then reverted."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from loco_cli.checkpoint.lora import LoraPart
from loco_cli.sampling.conditioning import PromptEncoder
from loco_cli.sampling.pipeline import Pipeline


@contextmanager
def replace_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """
    Replace parameters of a module, and restore them on exit.

    Args:
        module: A loaded component of a pipeline.
        weights: The new values, by tensor name in files; shapes must match.
    """
    parameters = {name: _parameter_of(module, name) for name in weights}
    saved = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    try:
        with torch.no_grad():
            for name, weight in weights.items():
                parameters[name].copy_(weight)
        yield
    finally:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(saved[name])


@contextmanager
def apply_lora(pipeline: Pipeline, parts: Sequence[LoraPart]) -> Iterator[Pipeline]:
    """Yield the pipeline with a LoRA at strength 1, and restore its weights on exit."""
    with ExitStack() as stack:
        for component in sorted({part.component for part in parts}):
            module = getattr(pipeline.pipe, component)
            own = [part for part in parts if part.component == component]
            stack.enter_context(replace_weights(module, _merged(module, own)))
        # the LoRA may change the encoders, so encoded prompts are not reused
        yield replace(pipeline, prompt_encoder=PromptEncoder(pipeline.pipe, pipeline.spec))


def _merged(module: nn.Module, parts: Sequence[LoraPart]) -> dict[str, Tensor]:
    merged = {}
    for part in parts:
        weight = _parameter_of(module, part.name).detach().cpu().double()
        merged[part.name] = weight + part.read().reshape(weight.shape)
    return merged


def _parameter_of(module: nn.Module, name: str) -> nn.Parameter:
    """
    Return the parameter with this tensor name in files.

    In memory, the parameters of a `CLIPTextModel` have no `text_model.` prefix.
    """
    is_bare = name.startswith("text_model.") and not hasattr(module, "text_model")
    return module.get_parameter(name.removeprefix("text_model.") if is_bare else name)
