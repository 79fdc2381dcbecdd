"""Other weights for a while: an edit tried in memory and taken back."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def replaced_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """While open, the named parameters of `module` have these values; after it their own again."""
    parameters = {name: parameter_of(module, name) for name in weights}
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


def parameter_of(module: nn.Module, name: str) -> nn.Parameter:
    """
    Return the parameter that files call `name`.

    In memory a `CLIPTextModel` leaves out the `text_model.` that its files begin their names with.
    """
    is_bare = name.startswith("text_model.") and not hasattr(module, "text_model")
    return module.get_parameter(name.removeprefix("text_model.") if is_bare else name)
