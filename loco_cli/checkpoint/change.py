"""How far a tensor has moved: its share, its largest step, its rank."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite

import numpy as np

from loco_cli.checkpoint.rank import numerical_rank, rounding_noise

_HALVES = ("F16", "BF16")  # float32 holds them, and their differences as good as exactly
_RANK_LIMIT = 32 << 20  # changed elements of which a rank is found: 128 MiB of float32


@dataclass(frozen=True)
class Change:
    """
    The step from one tensor to another: `Change(relative=0.01, max_abs=0.1, rank=4, share=0.96)`.

    None stands for a figure that is not finite, and for the rank of what is no matrix.
    """

    relative: float | None
    max_abs: float | None
    rank: int | None
    share: float


def measure(blocks: Iterable[tuple[np.ndarray, np.ndarray]], dtype: str | None) -> Change:
    """
    Return the change between two tensors of one shape, given as blocks of rows: before, after.

    `dtype` is how both are stored; with None, where it is not the same, the rank is left out.
    Of what is in memory at once only the changed rows grow with the tensor, up to a limit.
    """
    tally = _Tally()
    rows = _ChangedRows(dtype) if dtype else None
    kind = np.float32 if dtype in _HALVES else np.float64
    with np.errstate(invalid="ignore", over="ignore"):  # Inf - Inf, squares of what is huge
        for before, after in blocks:
            w, stored = before.astype(kind, copy=False), after.astype(kind, copy=False)
            delta = stored - w
            tally.add(w, stored, delta)
            if rows and delta.ndim == 2:
                rows.add(delta, stored)
        return tally.change(rows)


class _Tally:
    """Sums over all blocks seen so far."""

    def __init__(self) -> None:
        self._n = self._n_changed = 0
        self._square = self._delta_square = self._max_abs = 0.0

    def add(self, w: np.ndarray, stored: np.ndarray, delta: np.ndarray) -> None:
        self._n += w.size
        self._n_changed += int(np.count_nonzero(w != stored))
        self._square += _sum_of_squares(w)
        self._delta_square += _sum_of_squares(delta)
        self._max_abs = max(self._max_abs, float(np.abs(delta).max(initial=0.0)))

    def change(self, rows: "_ChangedRows | None") -> Change:
        share = self._n_changed / self._n if self._n else 0.0
        if not isfinite(self._delta_square):
            return Change(None, None, None, share)
        is_relative = isfinite(self._square) and self._square > 0
        return Change(
            relative=float(np.sqrt(self._delta_square / self._square)) if is_relative else None,
            max_abs=self._max_abs,
            rank=rows.rank() if rows else None,
            share=share,
        )


class _ChangedRows:
    """The rows of a matrix that moved: the others add neither rank nor noise."""

    def __init__(self, dtype: str) -> None:
        self._dtype = dtype
        self._n = 0
        self._is_matrix = False
        self._delta: list[np.ndarray] = []
        self._stored: list[np.ndarray] = []

    def add(self, delta: np.ndarray, stored: np.ndarray) -> None:
        moved = delta.any(axis=1)
        if not moved.all():
            delta, stored = delta[moved], stored[moved]
        self._is_matrix = True
        self._n += delta.size
        if self._n > _RANK_LIMIT:
            self._delta, self._stored = [], []
        elif delta.size:
            self._delta.append(delta)
            self._stored.append(stored)

    def rank(self) -> int | None:
        if not self._is_matrix or self._n > _RANK_LIMIT:
            return None
        if not self._delta:
            return 0
        noise = rounding_noise(self._stored, self._dtype)
        self._stored = []
        return numerical_rank(np.concatenate(self._delta), noise)


def _sum_of_squares(values: np.ndarray) -> float:
    rows = values.reshape(len(values), -1)
    return float(np.einsum("ij,ij->i", rows, rows).sum(dtype=np.float64))
