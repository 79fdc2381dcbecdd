"""
A change in two factors, made as short as it can be without losing anything of it.

With `left = Q R` and `right^T = P S` the change is `Q (R S^T) P^T`, so its singular values are
those of the small matrix `R S^T`: a rank is counted, and what is beyond it dropped, without the
product ever being formed. Both factors then take the square root of each singular value, and that
matters beyond their size: keys that are nearly parallel give factors whose large parts cancel in
the product, and a float32 of such a part has rounded off more than the product holds.
"""

from typing import Protocol

import torch
from torch import Tensor

# half a unit in the last place of float32, which exported factors are rounded to: a part of the
# change that is smaller than that is not missed
_NEGLIGIBLE = 2.0**-25


class Update(Protocol):
    """
    What an editor adds to a weight, or to each of several that read alike.

    `d_in` is how many numbers such a weight reads. `triangle` is what stands for the right factor
    where ranks are counted: the triangular factor of its transpose, which all weights share.
    """

    @property
    def d_in(self) -> int: ...

    @property
    def triangle(self) -> Tensor: ...  # [*, m]

    def change(self, weight: Tensor) -> tuple[Tensor, Tensor]:  # [d_out, m], [m, d_in], float64
        """Return the change of a weight [d_out, d_in] in two factors."""
        ...


def shorten(
    left: Tensor,  # [d_out, m]
    right: Tensor,  # [m, d_in]
) -> tuple[Tensor, Tensor]:  # [d_out, r], [r, d_in], float64
    """
    Return the shortest two factors of the same product, where r is its numerical rank.

    They are orthogonal, and equal in norm. All that is left out together has less than 2^-25 of
    the product's Frobenius norm; r is 0 where the product is nothing.
    """
    q_left, r_left = torch.linalg.qr(left.double())
    q_right, r_right = torch.linalg.qr(right.double().T)
    u, sizes, vh = torch.linalg.svd(r_left @ r_right.T, full_matrices=False)
    rest = sizes.square().flip(0).cumsum(0).flip(0).sqrt()  # the norm of each value and those after
    rank = int((rest > _NEGLIGIBLE * rest[0]).sum())
    root = sizes[:rank].sqrt()
    return q_left @ (u[:, :rank] * root), (root[:, None] * vh[:rank]) @ q_right.T
