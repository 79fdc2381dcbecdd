"""
The closed form, alone: the nearest weight that sends keys where they should go.

    min_W'  sum_i |W' k_i - v_i|^2 + ridge |W' - W|^2

    symbol   argument   what
    W        weight     the projection as it is, [d_out, d_in]
    k_i      keys       rows of `keys`, text embeddings that enter the projection, [n, d_in]
    t_i      targets    embeddings whose answer `k_i` should get: v_i = W t_i, [n, d_in]
    p_j      preserved  keys that keep their answers as rows of the same system: t_j = p_j
    f_j      fixed      keys that keep their answers exactly
    B                   `directions`, one row for each key that moves, [m, d_in]

LocoEdit, arXiv:2405.01008, section 4; the same form as UCE eq. 7, arXiv:2308.14761. In LocoEdit
values are always W t_i, and the change then factors into a part that knows the weight and a part
that does not:

    W' - W = W (T - X)^T (X X^T + ridge I)^-1 X = W (T - X)^T B

so one solve of n x n (or d_in x d_in, whichever is smaller) serves every layer, and the change has
at most as many ranks as there are keys that move.

Whatever is to become of the moving keys, the change of a weight is `C B`. Preserved keys are
weighed against those that move; B is orthogonal to fixed ones. Fixed keys are the limit of
preserved ones that weigh more and more, and where they fill the space nothing moves.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from loco_cli.errors import EditError
from loco_cli.recipe.values import Ridge

# of the largest singular value: embeddings are float32, and below this a direction is rounding
_RANK_TOLERANCE = 1e-6
_MIN_FREE_SHARE = 1e-3  # of the moving keys' norm: with less left free a change is mostly rounding


@dataclass(frozen=True)
class Solution:
    """
    An edit of every projection at once: `change(W) = W shift^T directions`.

    `ridge` is the price that was used.
    """

    shift: Tensor  # [m, d_text]
    directions: Tensor  # [m, d_text]
    ridge: float

    @cached_property
    def triangle(self) -> Tensor:  # [m, m] or [d_text, m]
        """The triangular factor of the directions, in which all projections share their rank."""
        return torch.linalg.qr(self.directions.T)[1]

    def residual(self, keys: Tensor, targets: Tensor) -> float:  # [m, d_text] each
        """Return the share of the shift from some keys to their targets that does not come true."""
        wanted = targets.double() - keys.double()
        moved = keys.double() @ self.directions.T @ self.shift
        return float((moved - wanted).norm() / wanted.norm())

    def change(self, weight: Tensor) -> tuple[Tensor, Tensor]:  # [d_out, m], [m, d_text]
        """Return the change of a projection [d_out, d_text] in two factors, in float64."""
        return weight.double() @ self.shift.double().T, self.directions


def solve_keys(
    keys: Tensor,  # [m, d_text]
    targets: Tensor,  # [m, d_text]
    preserved: Tensor,  # [p, d_text]
    fixed: Tensor | None,  # [f, d_text]
    ridge: Ridge,
) -> Solution:
    """Return the edit that sends keys to the answers of targets, as `find_directions` weighs it."""
    directions, price = find_directions(keys, preserved, fixed, ridge)
    return Solution(targets.double() - keys.double(), directions, price)


def find_directions(
    keys: Tensor,  # [m, d_in]
    preserved: Tensor,  # [p, d_in]
    fixed: Tensor | None,  # [f, d_in]
    ridge: Ridge,
) -> tuple[Tensor, float]:  # [m, d_in], float64
    """
    Return B for keys that move, among preserved and fixed keys, and the ridge in numbers.

    A relative ridge is a multiple of the moving keys' mean squared norm, of which only what `fixed`
    leaves free is counted. Raises EditError where that is nothing, or where the system has no
    finite answer.
    """
    if fixed is None:
        price = ridge.resolve(float(keys.double().square().sum(1).mean()))
        return _directions(keys, torch.cat([keys, preserved]), price), price
    basis = _free_basis(keys, fixed)
    directions, price = find_directions(
        keys.double() @ basis, preserved.double() @ basis, None, ridge
    )
    return directions @ basis.T, price


def _free_basis(keys: Tensor, fixed: Tensor) -> Tensor:  # [d_in, q], float64
    """
    Return Z, an orthonormal basis of all that is orthogonal to the fixed keys.

    The constraint `(W' - W) F^T = 0` leaves `W' - W = C Z^T`, and C solves the same problem for
    the keys `X Z`. Raises EditError where Z leaves the moving keys too little of their norm.
    """
    triangle = torch.linalg.qr(fixed.double(), mode="r")[1]  # rows may be many more than columns
    _, sizes, vh = torch.linalg.svd(triangle, full_matrices=True)
    basis = vh[int((sizes > _RANK_TOLERANCE * sizes[:1]).sum()) :].T
    what = f"the {len(fixed)} keys to be kept exactly"
    hint = "preserve less, or use `--set edit.preserve_form=ridge`"
    if not basis.shape[1]:
        raise EditError(f"{what} fill all {len(basis)} directions: none may move", hint)
    share = ((keys.double() @ basis).norm() / keys.double().norm()).item()
    if share < _MIN_FREE_SHARE:
        raise EditError(
            f"{what} leave {basis.shape[1]} of {len(basis)} directions free, in which "
            f"the keys to be moved have {share:.1g} of their norm",
            hint,
        )
    return basis


def _directions(moving: Tensor, keys: Tensor, ridge: float) -> Tensor:  # [m, d_in], float64
    """
    Return B, one row for each moving key: how much of a change each input direction receives.

    B is `(X X^T + ridge I)^-1 X` for the rows that move, or what is the same,
    `X_moving (X^T X + ridge I)^-1`; the smaller of the two systems is solved. The moving keys come
    first among `keys`. The solve runs in float64: its condition number is about |k|^2 / ridge, and
    float32 loses a percent of the change. Raises EditError where it has no finite answer.
    """
    moving, keys = moving.double(), keys.double()
    n, d_in = keys.shape
    try:
        if n <= d_in and n == len(moving) and torch.equal(keys, moving):
            gram = keys @ keys.T + ridge * torch.eye(n, dtype=keys.dtype)  # [n, n]
            directions = torch.linalg.solve(gram, keys)
        else:
            gram = keys.T @ keys + ridge * torch.eye(d_in, dtype=keys.dtype)  # [d_in, d_in]
            directions = torch.linalg.solve(gram, moving.T).T
    except torch.linalg.LinAlgError:
        directions = torch.full_like(moving, torch.nan)
    if not torch.isfinite(directions).all():
        raise EditError(f"the solve has no finite answer at ridge {ridge:g}", "raise `--ridge`")
    return directions
