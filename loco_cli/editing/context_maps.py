"""What keys and values read of a prompt: its states as the UNet maps and norms them on the way."""

import torch
from torch import Tensor
from torch.nn import functional


@torch.no_grad()
def mapped(
    states: Tensor,  # [n_tokens, d_states]
    weight: Tensor,  # [d_text, d_states]
    bias: Tensor,  # [d_text]
) -> Tensor:  # [n_tokens, d_text]
    """Return states behind the map that all layers share, DeepFloyd's `encoder_hid_proj`."""
    return functional.linear(states, weight, bias)


@torch.no_grad()
def normed(
    context: Tensor,  # [n_tokens, d_text]
    n_groups: int,
    weight: Tensor,  # [d_text]
    bias: Tensor,  # [d_text]
    epsilon: float,
) -> Tensor:  # [n_tokens, d_text]
    """
    Return a context behind a layer's `norm_cross`.

    Mean and variance are taken over a group's channels and all tokens, padding too: one changed
    token moves every other.
    """
    return functional.group_norm(context.T[None], n_groups, weight, bias, epsilon)[0].T


@torch.no_grad()
def token_normed(
    states: Tensor,  # [n_tokens, d_states]
    weight: Tensor,  # [d_states]
    bias: Tensor,  # [d_states]
    epsilon: float,
) -> Tensor:  # [n_tokens, d_states]
    """Return states behind the norm of DeepFloyd's `add_embedding`, each token by itself."""
    return functional.layer_norm(states, weight.shape, weight, bias, epsilon)
