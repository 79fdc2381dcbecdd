"""The size and rank of a change despite rounding noise."""

import numpy as np
import pytest

from loco_cli.checkpoint.change import Change, measure


def edited(rng, shape, rank, relative, dtype):
    """Return a random weight before and after a change of this rank and size, both rounded."""
    before = (rng.standard_normal(shape) * 0.03).astype(dtype)
    change = rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1]))
    change *= relative * np.linalg.norm(before.astype(float)) / np.linalg.norm(change)
    return before, (before.astype(float) + change).astype(dtype)


@pytest.mark.parametrize(
    ("shape", "rank"),
    [((24, 40), 1), ((24, 40), 4), ((320, 160), 1), ((320, 160), 40), ((520, 600), 60)],
)
@pytest.mark.parametrize(("dtype", "name"), [(np.float16, "F16"), (np.float32, "F32")])
@pytest.mark.parametrize("relative", [0.1, 0.01])
def test_rounding_adds_no_rank(shape, rank, dtype, name, relative):
    """
    A low-rank change keeps its rank, although rounding makes every singular value positive.
    """
    before, after = edited(np.random.default_rng(rank), shape, rank, relative, dtype)

    change = measure([(before, after)], name)

    assert change.rank == rank
    assert change.relative == pytest.approx(relative, rel=0.03)


@pytest.mark.parametrize("shape", [(300, 280), (140, 600)])
def test_measures_full_rank(shape):
    """
    A fully replaced matrix has full rank, which a sketch cannot measure.
    """
    rng = np.random.default_rng(0)
    before, after = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))

    assert measure([(before, after)], "F32").rank == min(shape)


def test_unchanged_rows_add_no_noise():
    """
    A small change beside large unchanged rows keeps its rank.
    """
    before, after = edited(np.random.default_rng(0), (64, 48), 3, 0.1, np.float16)
    large = np.full((64, 48), 1000, np.float16)

    change = measure([(np.vstack([large, before]), np.vstack([large, after]))], "F16")

    assert change.rank == 3


def test_block_size_does_not_matter():
    """
    The change does not depend on the split into row blocks.
    """
    before, after = edited(np.random.default_rng(1), (60, 50), 5, 0.1, np.float16)

    whole = measure([(before, after)], "F16")
    cut = measure(zip(np.split(before, 12), np.split(after, 12), strict=True), "F16")

    assert (cut.max_abs, cut.rank, cut.share) == (whole.max_abs, whole.rank, whole.share)
    assert cut.relative == pytest.approx(whole.relative, rel=1e-6)


def test_the_smallest_change_has_rank_one():
    """
    One element that moves by one step has rank one, although it is below the noise.
    """
    before = np.ones((8, 8), np.float16)
    after = before.copy()
    after[3, 3] = np.nextafter(after[3, 3], np.float16(2))

    change = measure([(before, after)], "F16")

    assert (change.rank, change.share) == (1, 1 / 64)


def test_a_vector_has_no_rank():
    """
    A vector has no rank, and a zero weight has no relative change.
    """
    change = measure([(np.zeros(4, np.float32), np.ones(4, np.float32))], "F32")

    assert change == Change(relative=None, max_abs=1.0, rank=None, share=1.0)


@pytest.mark.parametrize("odd", [np.nan, np.inf, 1e38])
def test_a_change_that_is_not_finite_has_only_a_share(odd):
    """
    After NaN, Inf or an overflow only the share of changed elements is known.
    """
    before = np.ones((4, 4), np.float32)
    after = before * np.float32(odd)

    assert measure([(before, after)], "BF16") == Change(None, None, None, share=1.0)
