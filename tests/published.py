"""Reference formulas in the form of their papers."""

import torch
from torch import Tensor


def ridge_update(
    weight: Tensor,  # [d_out, d_in]
    keys: Tensor,  # [n, d_in]
    values: Tensor,  # [n, d_out]
    ridge: float,
) -> Tensor:  # [d_out, d_in]
    """
    Return the weight nearest to `weight` that sends each key to its value.

        W' = (ridge W + values^T keys) (ridge I + keys^T keys)^-1

    The solve runs in float64; the result has the dtype of `weight`.

    LocoEdit, arXiv:2405.01008.
    """
    k, v, w = keys.double(), values.double(), weight.double()
    gram = k.T @ k + ridge * torch.eye(k.shape[1], dtype=k.dtype)  # [d_in, d_in]
    right = ridge * w + v.T @ k  # [d_out, d_in]
    return torch.linalg.solve(gram, right.T).T.to(weight.dtype)
