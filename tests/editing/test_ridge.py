"""The closed form: agreement with the published code, and its laws."""

import pytest
import torch

from loco_cli.editing.ridge import solve_keys
from loco_cli.errors import EditError
from loco_cli.recipe.values import Ridge
from tests.published import ridge_update


@pytest.fixture
def problem():
    """A weight, three keys and three targets in twelve dimensions."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(8, 12, generator=generator, dtype=torch.float64)
    keys = torch.randn(3, 12, generator=generator, dtype=torch.float64)
    targets = torch.randn(3, 12, generator=generator, dtype=torch.float64)
    return weight, keys, targets


def edited(weight, keys, targets, ridge, preserved=None):
    """Return the weight after an edit in the factored form."""
    preserved = keys[:0] if preserved is None else preserved
    left, right = solve_keys(keys, targets, preserved, None, Ridge(ridge)).change(weight)
    return weight + left @ right


def published(weight, keys, targets, ridge):
    """Return the solution as the paper prints it, with W as d_text x d_out."""
    w = weight.T
    left = keys.T @ keys + ridge * torch.eye(keys.shape[1], dtype=keys.dtype)
    return (torch.linalg.inv(left) @ (keys.T @ targets @ w + ridge * w)).T


@pytest.mark.parametrize("ridge", [1e-3, 0.01, 1.0, 100.0])
def test_agrees_with_the_published_formula(problem, ridge):
    """The factored form, the full form and the paper's formula agree."""
    weight, keys, targets = problem
    expected = published(weight, keys, targets, ridge)

    torch.testing.assert_close(edited(weight, keys, targets, ridge), expected, rtol=0, atol=1e-9)
    full = ridge_update(weight, keys, targets @ weight.T, ridge)
    torch.testing.assert_close(full, expected, rtol=0, atol=1e-9)


def test_keys_reach_their_targets_as_the_ridge_vanishes(problem):
    """Without a ridge, every key gets the output of its target."""
    weight, keys, targets = problem

    solution = edited(weight, keys, targets, 1e-12)

    torch.testing.assert_close(keys @ solution.T, targets @ weight.T, rtol=0, atol=1e-8)


def test_orthogonal_inputs_stay(problem):
    """An input orthogonal to every key keeps its output."""
    weight, keys, targets = problem
    bystander = torch.linalg.svd(keys).Vh[-1]  # [12], orthogonal to all three keys

    solution = edited(weight, keys, targets, 0.01)

    torch.testing.assert_close(solution @ bystander, weight @ bystander, rtol=0, atol=1e-12)


def test_a_huge_ridge_changes_nothing(problem):
    """A huge ridge leaves the weight unchanged."""
    weight, keys, targets = problem

    solution = edited(weight, keys, targets, 1e12)

    torch.testing.assert_close(solution, weight, rtol=0, atol=1e-9)


def test_the_order_of_edits_does_not_matter(problem):
    """The solution does not depend on the order of the keys."""
    weight, keys, targets = problem

    backwards = edited(weight, keys.flip(0), targets.flip(0), 0.01)

    torch.testing.assert_close(backwards, edited(weight, keys, targets, 0.01), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_preserved", [2, 40])
def test_preserved_keys_keep_their_outputs(problem, n_preserved):
    """Preserved keys outside the span of the moving ones keep their outputs."""
    weight, keys, targets = problem
    generator = torch.Generator().manual_seed(1)
    basis = torch.randn(2, 12, generator=generator, dtype=torch.float64)
    mix = torch.randn(n_preserved, 2, generator=generator, dtype=torch.float64)
    preserved = mix @ basis  # [n, 12], fewer or more rows than the input has dimensions

    solution = edited(weight, keys, targets, 1e-10, preserved)

    torch.testing.assert_close(preserved @ solution.T, preserved @ weight.T, rtol=0, atol=1e-5)
    torch.testing.assert_close(keys @ solution.T, targets @ weight.T, rtol=0, atol=1e-5)


def test_preserved_keys_are_their_own_targets(problem):
    """Preserved keys are rows of the published formula with themselves as target."""
    weight, keys, targets = problem
    preserved = torch.randn(5, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    rows, answers = torch.cat([keys, preserved]), torch.cat([targets, preserved])

    torch.testing.assert_close(
        edited(weight, keys, targets, 0.01, preserved),
        published(weight, rows, answers, 0.01),
        rtol=0,
        atol=1e-9,
    )


def test_the_rank_is_the_number_of_moving_keys(problem):
    """Three moving keys give a change of rank three for any number of preserved ones."""
    weight, keys, targets = problem
    preserved = torch.randn(20, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    change = edited(weight, keys, targets, 0.01, preserved) - weight

    assert torch.linalg.matrix_rank(change) == 3


def relative(times):
    return Ridge(times, is_relative=True)


def test_a_singular_system_is_refused(golden):
    """Two equal keys with almost no ridge have no finite solution."""
    keys, targets = torch.tensor([[2.0, 0.0]] * 2), torch.tensor([[0.0, 2.0]] * 2)

    with golden.raises(EditError, "`--ridge`"):
        solve_keys(keys, targets, keys[:0], None, Ridge(1e-320))


@pytest.fixture
def crowded():
    """Five moving keys and twelve fixed ones of rank 9 in 16 dimensions."""
    torch.manual_seed(0)
    keys, targets = torch.randn(5, 16), torch.randn(5, 16)
    return keys, targets, torch.randn(12, 9).double() @ torch.randn(9, 16).double()


def moved_by(solution, rows):
    return rows.double() @ solution.directions.T @ solution.shift


def test_fixed_keys_are_kept_exactly(crowded):
    """Fixed keys do not move, however small the ridge."""
    keys, targets, fixed = crowded

    solution = solve_keys(keys, targets, keys[:0], fixed, relative(1e-6))

    assert moved_by(solution, fixed).abs().max() < 1e-9


def test_moving_keys_use_the_free_directions(crowded):
    """Five keys reach their targets in seven free directions; in two they reach the optimum."""
    keys, targets, fixed = crowded
    more = torch.cat([fixed, torch.randn(5, 16)])  # rank 14

    with_room, without = (
        solve_keys(keys, targets, keys[:0], one, relative(1e-9)) for one in (fixed, more)
    )

    expected = (targets - keys).double()
    torch.testing.assert_close(moved_by(with_room, keys), expected, rtol=0, atol=1e-6)
    assert with_room.residual(keys, targets) < 1e-7
    # the optimum is the projection onto the span of the two free directions
    free = torch.linalg.svd(more.double()).Vh[14:]
    reach, _ = torch.linalg.qr(keys.double() @ free.T)
    least = (expected - reach @ reach.T @ expected).norm() / expected.norm()
    assert without.residual(keys, targets) == pytest.approx(least.item(), abs=1e-6)


def test_fixed_keys_are_the_limit_of_heavy_rows(crowded):
    """The null-space form is the limit of the ridge form with ever heavier preserved rows."""
    keys, targets, fixed = crowded
    exact = solve_keys(keys, targets, keys[:0], fixed, Ridge(0.1))
    errors = [
        (
            solve_keys(keys, targets, weight * fixed, None, Ridge(0.1)).directions
            - exact.directions
        ).norm()
        / exact.directions.norm()
        for weight in (1e1, 1e2, 1e3)
    ]

    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    assert errors[2] < 1e-5


def test_keys_without_free_directions_are_refused(golden):
    """The solve refuses fixed keys that span all inputs, or all of the keys to move."""
    keys = torch.eye(16)[:3]
    for n_fixed in (16, 14):
        with golden.raises(EditError, f"{n_fixed} keys", "`--set edit.preserve_form=ridge`"):
            solve_keys(keys, torch.zeros(3, 16), keys[:0], torch.eye(16)[:n_fixed], Ridge(0.1))


def test_preserved_rows_act_beside_fixed_ones(crowded):
    """Preserved rows reduce their own shift without moving the fixed ones."""
    keys, targets, fixed = crowded
    kept = torch.randn(4, 16)

    alone, together = (
        solve_keys(keys, targets, rows, fixed, relative(0.1)) for rows in (kept[:0], kept)
    )

    assert moved_by(together, kept).norm() < moved_by(alone, kept).norm()
    assert moved_by(together, fixed).abs().max() < 1e-9


def test_a_relative_ridge_scales_with_the_mean_squared_norm():
    """The unit of a relative ridge is the mean squared norm of the moving keys."""
    keys, targets = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    mixed = torch.tensor([[3.0, 4.0], [0.0, 1.0]])

    solution = solve_keys(keys, targets, keys[:0], None, relative(0.5))

    assert solve_keys(mixed, mixed + 1, mixed[:0], None, relative(1.0)).ridge == 13.0
    assert solution.ridge == 2.0
    # the key moves 4 / (4 + 2) of the way, so a third is left
    assert solution.residual(keys, targets) == pytest.approx(1 / 3)
