"""
How far a tensor has moved: its share, its largest step, its rank.

Rounding an edited weight to its dtype adds noise of full rank to a change of low rank, so the
rank counts the singular values above what that noise alone reaches. With steps `u` between
neighbouring numbers the noise is spread over `u / sqrt(12)`, and the largest singular value of a
matrix of such noise is at most about its largest row norm plus its largest column norm
(Bandeira and van Handel, arXiv:1408.6185).
"""

from dataclasses import dataclass

import numpy as np

_MANTISSA_BITS = {"F16": 10, "BF16": 7, "F32": 23, "F64": 52}
_MIN_EXPONENTS = {"F16": -14, "BF16": -126, "F32": -126, "F64": -1022}
_SKETCH_WIDTH = 32  # more than the keys of most edits
_MARGIN = 1.5  # a change of about one step per element leaves noise that is not independent


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


def measure(before: np.ndarray, after: np.ndarray, dtype: str | None) -> Change:
    """
    Return the change from `before` to `after`, two arrays of one shape, both stored as `dtype`.

    With `dtype` None, where the two are stored differently, the rank is left out.
    """
    share = float(np.mean(before != after)) if before.size else 0.0
    w = before.astype(np.float64)
    with np.errstate(invalid="ignore"):  # Inf - Inf
        delta = after.astype(np.float64) - w
    if not np.isfinite(delta).all():
        return Change(None, None, None, share)
    size = float(np.linalg.norm(w))
    return Change(
        relative=float(np.linalg.norm(delta)) / size if size else None,
        max_abs=float(np.abs(delta).max(initial=0.0)),
        rank=numerical_rank(delta, after, dtype) if dtype and delta.ndim == 2 else None,
        share=share,
    )


def numerical_rank(
    delta: np.ndarray,  # [d_out, d_in], float64
    stored: np.ndarray,  # [d_out, d_in], what the change led to
    dtype: str,
) -> int:
    """
    Return how many singular values of `delta` are above the noise of rounding `stored`.

    A random sketch finds the largest ones at a fraction of the price of all (Halko, Martinsson and
    Tropp, arXiv:0909.4061); it is enough as soon as the smallest that it found is noise.
    """
    if not delta.any():
        return 0
    floor = _noise(stored, dtype)
    for width in (_SKETCH_WIDTH, 8 * _SKETCH_WIDTH):
        if width >= min(delta.shape):
            break
        found = _largest_singular_values(delta, width)
        if found[-1] <= floor:
            return max(1, int(np.count_nonzero(found > floor)))
    found = np.linalg.svd(delta, compute_uv=False)
    return max(1, int(np.count_nonzero(found > max(floor, 1e-12 * found[0]))))


def _largest_singular_values(delta: np.ndarray, width: int) -> np.ndarray:  # [width], descending
    sketch = np.random.default_rng(width).standard_normal((delta.shape[1], width))
    basis, _ = np.linalg.qr(delta @ (delta.T @ (delta @ sketch)))  # [d_out, width]
    return np.linalg.svd(basis.T @ delta, compute_uv=False)


def _noise(stored: np.ndarray, dtype: str) -> float:
    if dtype not in _MANTISSA_BITS:
        return 0.0
    _, exponents = np.frexp(stored.astype(np.float64))  # |x| in [2^(e-1), 2^e)
    exponents = np.maximum(exponents - 1, _MIN_EXPONENTS[dtype]) - _MANTISSA_BITS[dtype]
    variance = np.exp2(2.0 * exponents) / 12
    rows, columns = variance.sum(axis=1).max(), variance.sum(axis=0).max()
    return _MARGIN * float(np.sqrt(rows) + np.sqrt(columns))
