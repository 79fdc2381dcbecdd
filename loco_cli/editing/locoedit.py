"""
LocoEdit: rewrite keys and values of the located layers, so that one prompt reads as another.

For every prompt pair the text embeddings of the source prompt are keys, and the weight's own
answer to the target prompt's embeddings is what they should get. Which positions of the prompt
take part is `tokens`:

    last-subject     the subject's last token alone, as the paper's released code does
    subject-to-end   that token and every later position: a causal encoder carries the concept on
                     into all of them, end token and padding included
    all              every position

Both prompts run alike behind the subject, so position i of the source answers to position
`i - shift` of the target, where `shift` is the difference of their end positions.

Prompts to preserve are keys that must keep their values, at every position, in the same system; or
their words are kept exactly, the change being orthogonal to them, and their padding in the system.

Basu et al. 2024, arXiv:2405.01008, section 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from loco_cli.editing.directions import find_directions
from loco_cli.editing.ridge import low_rank_change
from loco_cli.errors import EditError

Tokens = Literal["last-subject", "subject-to-end", "all"]


@dataclass(frozen=True)
class Aligned:
    """
    A prompt pair, encoded: states [n_tokens, d_text], the subject's positions, the end positions.

    `start` is where words may begin: behind the start token, which says nothing, if there is one.
    """

    source: Tensor
    target: Tensor
    subject: tuple[int, ...]
    source_end: int
    target_end: int
    start: int = 1


@dataclass(frozen=True)
class Solution:
    """
    An edit of every projection at once: `change(W) = W shift^T directions`.

    `ridge` is the price that was used, `n_keys` how many rows moved, `residual` the share of the
    wanted shift that is missing afterwards, `drift` the largest relative shift of a preserved key.
    """

    shift: Tensor  # [m, d_text]
    directions: Tensor  # [m, d_text]
    ridge: float
    n_keys: int
    residual: float
    drift: float

    @property
    def d_in(self) -> int:
        """How many numbers a projection reads."""
        d_in: int = self.directions.shape[1]
        return d_in

    @cached_property
    def triangle(self) -> Tensor:  # [m, m] or [d_text, m]
        """The triangular factor of the directions, in which all projections share their rank."""
        return torch.linalg.qr(self.directions.T)[1]

    def missing(self, keys: Tensor, targets: Tensor) -> float:  # [m, d_text] each
        """Return the share of the shift from some keys to their targets that does not come true."""
        wanted = targets.double() - keys.double()
        moved = keys.double() @ self.directions.T @ self.shift
        return float((moved - wanted).norm() / wanted.norm())

    def change(self, weight: Tensor) -> tuple[Tensor, Tensor]:  # [d_out, m], [m, d_text]
        """Return the change of a projection [d_out, d_text] in two factors, in float64."""
        return low_rank_change(weight, self.shift, self.directions)


def moving_rows(pairs: Sequence[Aligned], tokens: Tokens) -> tuple[Tensor, Tensor]:
    """Return keys and targets [m, d_text] of all pairs; rows already in place are left out."""
    keys, targets = [], []
    for pair in pairs:
        for position in _positions(pair, tokens):
            answer = answering(pair, position)
            if not torch.equal(pair.source[position], pair.target[answer]):
                keys.append(pair.source[position])
                targets.append(pair.target[answer])
    if not keys:
        raise EditError("every source prompt already reads as its target; there is nothing to edit")
    return torch.stack(keys), torch.stack(targets)


def solve(
    keys: Tensor,  # [m, d_text]
    targets: Tensor,  # [m, d_text]
    preserved: Tensor,  # [p, d_text]
    ridge: float,
    *,
    relative: bool,
    fixed: Tensor | None = None,  # [f, d_text]
) -> Solution:
    """
    Return the edit that sends keys to the answers of targets and leaves preserved keys alone.

    Ridge, preserved and fixed keys are as in `find_directions`.
    """
    directions, price = find_directions(keys, preserved, fixed, ridge, relative=relative)
    shift = targets.double() - keys.double()
    moved = keys.double() @ directions.T @ shift  # [m, d_text]
    residual = ((moved - shift).norm() / shift.norm()).item()
    drift = max(_drift(rows, directions, shift) for rows in (preserved, fixed))
    return Solution(shift, directions, price, len(keys), residual, drift)


def _drift(rows: Tensor | None, directions: Tensor, shift: Tensor) -> float:
    """Return the largest shift of these rows, of their norm."""
    if rows is None or not len(rows):
        return 0.0
    bent = rows.double() @ directions.T @ shift
    return float((bent.norm(dim=1) / rows.double().norm(dim=1)).max())


def _positions(pair: Aligned, tokens: Tokens) -> range:
    last = pair.subject[-1]
    if tokens == "last-subject":
        return range(last, last + 1)
    return range(0 if tokens == "all" else last, len(pair.source))


def answering(pair: Aligned, position: int) -> int:
    """Return the target position that a source position should read as."""
    if position < pair.subject[0]:
        return min(position, pair.target_end)  # the prompts begin alike
    shifted = max(position, pair.subject[-1]) - (pair.source_end - pair.target_end)
    return min(max(shifted, pair.start), len(pair.target) - 1)
