"""
Which input directions a change may read, for keys that move among keys that stay.

Whatever is to become of the moving keys, the change of a weight is `C B` with the B of `ridge`,
one row for each of them. Keys that stay are either rows of the same ridge system, which then weighs
them against those that move, or fixed: B is orthogonal to them, and they are kept exactly. Fixed
keys are the limit of rows that weigh more and more, and where they fill the space nothing moves.
"""

import torch
from torch import Tensor

from loco_cli.editing.ridge import free_basis, key_scale, solve_directions
from loco_cli.errors import EditError

ROOM = 1e-3  # of the moving keys' norm: with less left free a change would be mostly rounding


def find_directions(
    keys: Tensor,  # [m, d_in]
    preserved: Tensor,  # [p, d_in]
    fixed: Tensor | None,  # [f, d_in]
    ridge: float,
    *,
    relative: bool,
) -> tuple[Tensor, float]:  # [m, d_in], float64
    """
    Return B for keys that move, among rows to preserve and rows to keep exactly, and its ridge.

    With `relative` the ridge is that multiple of the moving keys' mean squared norm, of which
    only what `fixed` leaves free is counted. Raises EditError where that is nothing, or where the
    system has no finite answer.
    """
    if fixed is None:
        price = ridge * (key_scale(keys) if relative else 1.0)
        return _solved(keys, torch.cat([keys, preserved]), price), price
    basis = _room(keys, fixed)
    directions, price = find_directions(
        keys.double() @ basis, preserved.double() @ basis, None, ridge, relative=relative
    )
    return directions @ basis.T, price


def _room(keys: Tensor, fixed: Tensor) -> Tensor:  # [d_in, q]
    """Return a basis of what the fixed keys leave free; raises EditError where it is too little."""
    basis = free_basis(fixed)
    what = f"the {len(fixed)} keys to be kept exactly"
    hint = "preserve less, or use `--set edit.preserve_form=ridge`"
    if not basis.shape[1]:
        raise EditError(f"{what} fill all {len(basis)} directions: none may move", hint)
    share = ((keys.double() @ basis).norm() / keys.double().norm()).item()
    if share < ROOM:
        raise EditError(
            f"{what} leave {basis.shape[1]} of {len(basis)} directions free, in which "
            f"the keys to be moved have {share:.1g} of their norm",
            hint,
        )
    return basis


def _solved(keys: Tensor, everything: Tensor, price: float) -> Tensor:  # [m, d_in]
    try:
        directions = solve_directions(keys, everything, price)
    except torch.linalg.LinAlgError:
        directions = torch.full_like(keys, torch.nan)
    if not torch.isfinite(directions).all():
        raise EditError(f"the solve has no finite answer at ridge {price:g}", "raise `--ridge`")
    return directions
