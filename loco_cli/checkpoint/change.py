"""
The change between two tensors: changed share, norm, largest step and numerical rank.

Rounding an edited weight to its dtype adds full-rank noise to a low-rank change. The rank therefore
counts only the singular values above the noise. With spacing `u` between neighbouring numbers, the
rounding error has the standard deviation `u / sqrt(12)`. The largest singular value of such a noise
matrix is at most about its largest row norm plus its largest column norm (Bandeira and van Handel,
arXiv:1408.6185).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

_HALF_DTYPES = ("F16", "BF16")  # float32 represents their differences almost exactly
_MANTISSA_BITS = {"F16": 10, "BF16": 7, "F32": 23, "F64": 52}
_MIN_EXPONENTS = {"F16": -14, "BF16": -126, "F32": -126, "F64": -1022}
_EXPONENT_MASKS = {np.dtype(np.float32): 0x7F80_0000, np.dtype(np.float64): 0x7FF0 << 48}
_NOISE_MARGIN = 1.5  # factor; rounding errors of a change near one step are not independent
_SKETCH_WIDTHS = (32, 128)  # columns; most edits have fewer keys
_BLOCK_COLUMNS = 512
_MAX_RANK_ELEMENTS = 32 << 20  # changed elements, 128 MiB of float32; no rank above this size


@dataclass(frozen=True)
class Change:
    """
    The change between two tensors: `Change(relative=0.01, max_abs=0.1, rank=4, share=0.96)`.

    A figure is None if it is not finite. The rank is None if the tensor is not a matrix.
    """

    relative: float | None
    max_abs: float | None
    rank: int | None
    share: float


def measure(blocks: Iterable[tuple[np.ndarray, np.ndarray]], dtype: str | None) -> Change:
    """
    Measure the change between two tensors of the same shape.

    Only the changed rows stay in memory, and only up to a limit.

    Args:
        blocks: Pairs of row blocks, before and after, which together cover both tensors.
        dtype: The dtype in which both are stored; None if the dtypes differ.

    Returns:
        The change. Its rank is None if `dtype` is None.
    """
    tally = _Tally()
    rows = _ChangedRows(dtype) if dtype else None
    kind = np.float32 if dtype in _HALF_DTYPES else np.float64
    with np.errstate(invalid="ignore", over="ignore"):  # Inf - Inf, and squares of huge values
        for before, after in blocks:
            w, stored = before.astype(kind, copy=False), after.astype(kind, copy=False)
            delta = stored - w
            tally.add(w, stored, delta)
            if rows and delta.ndim == 2:
                rows.add(delta, stored)
        return tally.change(rows)


class _Tally:
    """Running sums over the blocks."""

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
    """The changed rows of a matrix; the other rows add neither rank nor noise."""

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
        if self._n > _MAX_RANK_ELEMENTS:
            self._delta, self._stored = [], []
        elif delta.size:
            self._delta.append(delta)
            self._stored.append(stored)

    def rank(self) -> int | None:
        if not self._is_matrix or self._n > _MAX_RANK_ELEMENTS:
            return None
        if not self._delta:
            return 0
        noise = _rounding_noise(self._stored, self._dtype)
        self._stored = []
        return _numerical_rank(np.concatenate(self._delta), noise)


def _sum_of_squares(values: np.ndarray) -> float:
    rows = values.reshape(len(values), -1)
    return float(np.einsum("ij,ij->i", rows, rows).sum(dtype=np.float64))


def _rounding_noise(stored: Sequence[np.ndarray], dtype: str) -> float:
    """
    Return an upper bound on the largest singular value of the rounding error.

    `stored` has row blocks [n, d_in] of the rounded matrix, in float32 or float64; `dtype` is the
    dtype of the file.
    """
    if dtype not in _MANTISSA_BITS:
        return 0.0
    largest_row, columns = 0.0, 0.0
    for block in stored:
        powers = _powers_of_two(block, _MIN_EXPONENTS[dtype])
        largest_row = max(largest_row, float(np.einsum("ij,ij->i", powers, powers).max()))
        columns = columns + np.einsum("ij,ij->j", powers, powers).astype(np.float64)  # [d_in]
    step = np.exp2(-_MANTISSA_BITS[dtype]) / np.sqrt(12)
    return float(_NOISE_MARGIN * step * (np.sqrt(largest_row) + np.sqrt(np.max(columns))))


def _numerical_rank(delta: np.ndarray, floor: float) -> int:
    """
    Count the singular values of `delta` [m, n] above `floor`; at least 1 unless `delta` is zero.

    A random sketch finds the largest singular values at a fraction of the full cost (Halko,
    Martinsson and Tropp, arXiv:0909.4061). It suffices once its smallest singular value is noise.
    """
    if not delta.any():
        return 0
    for width in _SKETCH_WIDTHS:
        if 4 * width > min(delta.shape):
            break  # the full decomposition costs no more
        values = _largest_singular_values(delta, width)
        raised_floor = _floor(floor, values, delta.dtype)
        if values[-1] <= raised_floor:
            return max(1, int(np.count_nonzero(values > raised_floor)))
    values = _singular_values(delta, floor)
    return max(1, int(np.count_nonzero(values > _floor(floor, values, delta.dtype))))


def _floor(floor: float, values: np.ndarray, dtype: np.dtype) -> float:
    # arithmetic noise dominates if the file has a finer dtype than the computation
    return max(floor, 32 * float(np.finfo(dtype).eps) * float(values[0]))


def _powers_of_two(values: np.ndarray, min_exponent: int) -> np.ndarray:
    """Return 2^e for each value in [2^e, 2^(e+1)), by clearing its sign and fraction bits."""
    integers = values.view(np.uint32 if values.dtype == np.float32 else np.uint64)
    powers: np.ndarray = (integers & integers.dtype.type(_EXPONENT_MASKS[values.dtype])).view(
        values.dtype
    )
    clipped: np.ndarray = np.maximum(powers, powers.dtype.type(2.0**min_exponent))
    return clipped


def _largest_singular_values(delta: np.ndarray, width: int) -> np.ndarray:  # [width], descending
    sketch = np.random.default_rng(width).standard_normal((delta.shape[1], width), delta.dtype)
    basis, _ = np.linalg.qr(delta @ sketch)  # [m, width]
    basis, _ = np.linalg.qr(delta.T @ basis)  # [n, width]
    basis, _ = np.linalg.qr(delta @ basis)  # [m, width]
    return np.linalg.svd(basis.T @ delta, compute_uv=False)


def _singular_values(delta: np.ndarray, floor: float) -> np.ndarray:  # descending
    gram = _gram(delta if len(delta) <= delta.shape[1] else delta.T)
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[::-1], 0.0))
    # squaring loses values below 1e-7 of the largest; a full SVD resolves them, but is slower
    resolution = 1e-7 * values[0]
    if max(floor, values[-1]) >= resolution or delta.dtype == np.float32:
        return values
    return np.linalg.svd(delta, compute_uv=False)


def _gram(wide: np.ndarray) -> np.ndarray:  # [m, m], float64
    gram = np.zeros((len(wide), len(wide)))
    for begin in range(0, wide.shape[1], _BLOCK_COLUMNS):
        block = wide[:, begin : begin + _BLOCK_COLUMNS].astype(np.float64)
        gram += block @ block.T
    return gram
