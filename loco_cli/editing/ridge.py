"""
The closed form, alone: the nearest weight that sends keys where they should go.

    min_W'  sum_i |W' k_i - v_i|^2 + ridge |W' - W|^2

    symbol   argument   what
    W        weight     the projection as it is, [d_out, d_in]
    k_i      keys       rows of `keys`, text embeddings that enter the projection, [n, d_in]
    v_i      values     rows of `values`, what it should answer, [n, d_out]
    t_i      targets    embeddings whose answer `k_i` should get: v_i = W t_i, [n, d_in]

LocoEdit, arXiv:2405.01008, section 4; the same form as UCE eq. 7, arXiv:2308.14761. In LocoEdit
values are always W t_i, and the change then factors into a part that knows the weight and a part
that does not:

    W' - W = W (T - X)^T (X X^T + ridge I)^-1 X = W (T - X)^T B

so one solve of n x n (or d_in x d_in, whichever is smaller) serves every layer, and the change has
at most as many ranks as there are keys that move.
"""

import torch
from torch import Tensor

# of the largest singular value: embeddings are float32, and below this a direction is rounding
_RANK_TOLERANCE = 1e-6


def ridge_update(
    weight: Tensor,  # [d_out, d_in]
    keys: Tensor,  # [n, d_in]
    values: Tensor,  # [n, d_out]
    ridge: float,
) -> Tensor:  # [d_out, d_in]
    """
    Return the weight nearest to `weight` that sends each key to its value, as published.

        W' = (ridge W + values^T keys) (ridge I + keys^T keys)^-1

    The solve runs in float64: its condition number is about |k|^2 / ridge, and float32 already
    loses a percent of the change. The result has the dtype of `weight`.

    LocoEdit, arXiv:2405.01008.
    """
    k, v, w = keys.double(), values.double(), weight.double()
    gram = k.T @ k + ridge * torch.eye(k.shape[1], dtype=k.dtype)  # [d_in, d_in]
    right = ridge * w + v.T @ k  # [d_out, d_in]
    return torch.linalg.solve(gram, right.T).T.to(weight.dtype)


def solve_directions(
    moving: Tensor,  # [m, d_in]
    keys: Tensor,  # [n, d_in], the moving ones among them
    ridge: float,
) -> Tensor:  # [m, d_in], float64
    """
    Return B, one row per moving key: how much of a change each input direction receives.

    B is `(X X^T + ridge I)^-1 X` for the rows that move, or what is the same,
    `X_moving (X^T X + ridge I)^-1`; the smaller of the two systems is solved.
    """
    x, m = keys.double(), moving.double()
    n, d_in = x.shape
    if n <= d_in and n == len(m) and torch.equal(x, m):
        gram = x @ x.T + ridge * torch.eye(n, dtype=x.dtype)  # [n, n]
        return torch.linalg.solve(gram, x)
    gram = x.T @ x + ridge * torch.eye(d_in, dtype=x.dtype)  # [d_in, d_in]
    return torch.linalg.solve(gram, m.T).T


def free_basis(fixed: Tensor) -> Tensor:  # [f, d_in] -> [d_in, q], float64
    """
    Return Z, an orthonormal basis of all that is orthogonal to these rows.

    The constraint `(W' - W) F^T = 0` leaves `W' - W = C Z^T`, and C solves the same problem for
    the keys `X Z`: the limit of the ridge system as rows of F join it with a growing weight.
    """
    triangle = torch.linalg.qr(fixed.double(), mode="r")[1]  # rows may be many more than columns
    _, sizes, vh = torch.linalg.svd(triangle, full_matrices=True)
    rank = int((sizes > _RANK_TOLERANCE * sizes[:1]).sum())
    return vh[rank:].T


def low_rank_change(
    weight: Tensor,  # [d_out, d_in]
    shift: Tensor,  # [m, d_in], targets - keys of the rows that move
    directions: Tensor,  # [m, d_in], from `solve_directions`
) -> tuple[Tensor, Tensor]:  # [d_out, m], [m, d_in], float64
    """
    Return the change of one projection in two factors, `left @ right`.

    `left = W (T - X)^T`, `right = B`: the change's rank is at most m.
    """
    return weight.double() @ shift.double().T, directions


def key_scale(keys: Tensor) -> float:  # [n, d_in]
    """Return the keys' mean squared norm, the unit of a relative ridge."""
    return float(keys.double().square().sum(1).mean())
