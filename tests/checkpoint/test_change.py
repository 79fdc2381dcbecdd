"""The rank of a change, seen through the rounding of the dtype that stores it."""

import numpy as np
import pytest

from loco_cli.checkpoint.change import measure, numerical_rank


def edited(rng, shape, rank, relative, dtype):
    """Return a random weight and the same with a change of this rank and size, both rounded."""
    before = (rng.standard_normal(shape) * 0.03).astype(dtype)
    change = rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1]))
    change *= relative * np.linalg.norm(before.astype(float)) / np.linalg.norm(change)
    return before, (before.astype(float) + change).astype(dtype)


@pytest.mark.parametrize(
    ("shape", "rank"), [((24, 40), 1), ((24, 40), 4), ((320, 160), 1), ((320, 160), 40)]
)
@pytest.mark.parametrize(("dtype", "name"), [(np.float16, "F16"), (np.float32, "F32")])
@pytest.mark.parametrize("relative", [0.1, 0.01])
def test_rounding_adds_no_rank(shape, rank, dtype, name, relative):
    """
    A low-rank change keeps its rank though rounding has made every singular value positive.
    """
    before, after = edited(np.random.default_rng(rank), shape, rank, relative, dtype)

    change = measure(before, after, name)

    assert change.rank == rank
    assert change.relative == pytest.approx(relative, rel=0.03)


def test_a_change_of_full_rank_is_one():
    """
    A matrix that is wholly replaced has full rank, beyond what a sketch can tell.
    """
    rng = np.random.default_rng(0)
    before, after = (rng.standard_normal((300, 280)).astype(np.float32) for _ in range(2))

    assert numerical_rank(after.astype(float) - before, after, "F32") == 280


def test_the_smallest_change_has_rank_one():
    """
    A single element moved by a single step is a change of rank one, below the noise as it is.
    """
    before = np.ones((8, 8), np.float16)
    after = before.copy()
    after[3, 3] = np.nextafter(after[3, 3], np.float16(2))

    change = measure(before, after, "F16")

    assert (change.rank, change.share) == (1, 1 / 64)


def test_a_vector_has_no_rank():
    """
    Rank is for matrices; a weight of zeros has no relative change.
    """
    change = measure(np.zeros(4, np.float32), np.ones(4, np.float32), "F32")

    assert (change.rank, change.relative, change.max_abs) == (None, None, 1.0)
