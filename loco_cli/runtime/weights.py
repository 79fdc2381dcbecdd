"""Other weights for a while: an edit tried in memory and taken back."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def replaced_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """While open, the named parameters of `module` have these values; after it their own again."""
    parameters = {name: module.get_parameter(name) for name in weights}
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
