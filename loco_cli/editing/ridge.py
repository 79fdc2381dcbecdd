"""
The closed form: the weight nearest to the old one that maps keys to their new values.

    min_W'  sum_i |W' k_i - v_i|^2 + ridge |W' - W|^2

    symbol   argument    meaning
    W        weight      the present weight of the projection, [d_out, d_in]
    k_i      keys        inputs of the projection that move, one in each row, [m, d_in]
    t_i      targets     inputs whose present output each k_i gets: v_i = W t_i, [m, d_in]
    p_j      preserved   inputs that should keep their output, as rows of the same system, [p, d_in]
    f_j      fixed       inputs that keep their output exactly, [f, d_in]
    X, T                 keys and targets with the preserved inputs appended to both
    B        directions  one row for each key that moves, [m, d_in]

LocoEdit, arXiv:2405.01008, section 4; the same form as UCE eq. 7, arXiv:2308.14761. In LocoEdit the
values are always W t_i. The change then factors into one part with the weight and one without it:

    W' - W = W (T - X)^T (X X^T + ridge I)^-1 X = W (T - X)^T B

One solve of the smaller system, n x n or d_in x d_in, therefore serves every layer. The rank of the
change is at most the number of keys that move.

For any new values of the moving keys, the change has the form `C B`. The system weighs preserved
inputs against moving keys, while B is orthogonal to fixed inputs. Fixed inputs are the limit of
preserved ones whose weight grows without bound. If they span the whole space, nothing can move.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from loco_cli.errors import EditError
from loco_cli.recipe.values import Ridge

# share of the largest singular value: embeddings are float32, so smaller ones are rounding errors
_RANK_TOLERANCE = 1e-6
# share of the moving keys' norm outside the fixed inputs: with less, a change is mostly rounding
_MIN_FREE_SHARE = 1e-3


@dataclass(frozen=True)
class Solution:
    """
    One solution for all projections with the same inputs: `change(W) = W shift^T directions`.

    `ridge` is λ as a number.
    """

    shift: Tensor  # [m, d_text]
    directions: Tensor  # [m, d_text]
    ridge: float

    @cached_property
    def triangle(self) -> Tensor:  # [m, m] or [d_text, m]
        """The triangular factor of the directions, which gives the rank of every change."""
        return torch.linalg.qr(self.directions.T)[1]

    def residual(self, keys: Tensor, targets: Tensor) -> float:  # [m, d_text] each
        """Return the share of the shift from keys to targets that the solution leaves undone."""
        shift = targets.double() - keys.double()
        moved = keys.double() @ self.directions.T @ self.shift
        return float((moved - shift).norm() / shift.norm())

    def change(self, weight: Tensor) -> tuple[Tensor, Tensor]:  # [d_out, m], [m, d_text]
        """Return the change of a projection [d_out, d_text] as two factors in float64."""
        return weight.double() @ self.shift.double().T, self.directions


def solve_keys(
    keys: Tensor,  # [m, d_text]
    targets: Tensor,  # [m, d_text]
    preserved: Tensor,  # [p, d_text]
    fixed: Tensor | None,  # [f, d_text]
    ridge: Ridge,
) -> Solution:
    """
    Solve for the change that gives each key the output of its target.

    Args:
        keys: The inputs that move.
        targets: The inputs whose output each key should get.
        preserved: Inputs that should keep their output, in the same ridge system. May be empty.
        fixed: Inputs that keep their output exactly. None for the plain ridge form.
        ridge: The penalty λ on a change of the weight, absolute or relative.

    Returns:
        The solution, in float64.

    Raises:
        EditError: The fixed inputs leave the keys no freedom, or the system has no finite answer.

    Example:
        >>> solution = solve_keys(keys, targets, keys[:0], None, Ridge(0.01, is_relative=True))
        >>> left, right = solution.change(weight)
        >>> edited = weight + left @ right
    """
    directions, ridge_value = find_directions(keys, preserved, fixed, ridge)
    return Solution(targets.double() - keys.double(), directions, ridge_value)


def find_directions(
    keys: Tensor,  # [m, d_in]
    preserved: Tensor,  # [p, d_in]
    fixed: Tensor | None,  # [f, d_in]
    ridge: Ridge,
) -> tuple[Tensor, float]:  # [m, d_in], float64
    """
    Return B and the value of the ridge.

    A relative ridge is a multiple of the mean squared norm of the moving keys. Only their part
    outside the span of the fixed inputs counts.

    Raises:
        EditError: The fixed inputs leave the keys no freedom, or the system has no finite answer.
    """
    if fixed is None:
        ridge_value = ridge.resolve(float(keys.double().square().sum(1).mean()))
        return _directions(keys, torch.cat([keys, preserved]), ridge_value), ridge_value
    basis = _free_basis(keys, fixed)
    directions, ridge_value = find_directions(
        keys.double() @ basis, preserved.double() @ basis, None, ridge
    )
    return directions @ basis.T, ridge_value


def _free_basis(keys: Tensor, fixed: Tensor) -> Tensor:  # [d_in, q], float64
    """
    Return Z, an orthonormal basis of the orthogonal complement of the fixed inputs.

    The constraint `(W' - W) F^T = 0` implies `W' - W = C Z^T`, and C solves the same problem for
    the keys `X Z`. Raises EditError if too little of the moving keys is left in Z.
    """
    # F can have far more rows than columns; its triangular factor has the same row space
    triangle = torch.linalg.qr(fixed.double(), mode="r")[1]
    _, sizes, vh = torch.linalg.svd(triangle, full_matrices=True)
    basis = vh[int((sizes > _RANK_TOLERANCE * sizes[:1]).sum()) :].T
    what = f"the {len(fixed)} keys that must stay fixed"
    hint = "preserve less, or use `--set edit.preserve_form=ridge`"
    if not basis.shape[1]:
        raise EditError(
            f"{what} span all {len(basis)} directions, so the edit can change nothing", hint
        )
    share = ((keys.double() @ basis).norm() / keys.double().norm()).item()
    if share < _MIN_FREE_SHARE:
        raise EditError(
            f"{what} leave {basis.shape[1]} of {len(basis)} directions free, and these contain "
            f"only {100 * share:.1g} % of the norm of the keys to change",
            hint,
        )
    return basis


def _directions(moving: Tensor, keys: Tensor, ridge: float) -> Tensor:  # [m, d_in], float64
    """
    Return B, one row for each moving key.

    The rows are those of `(X X^T + ridge I)^-1 X` for the moving keys, which come first in `keys`.
    They equal `X_moving (X^T X + ridge I)^-1`, and the smaller of the two systems is solved. The
    solve uses float64: its condition number is about |k|^2 / ridge, and float32 would lose one
    percent of the change. Raises EditError if the answer is not finite.
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
        raise EditError(
            f"the linear system has no finite solution at ridge {ridge:g}", "raise `--ridge`"
        )
    return directions
