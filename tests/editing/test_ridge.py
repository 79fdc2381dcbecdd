"""The closed form, held against the published one and against the laws it must obey."""

import pytest
import torch

from loco_cli.editing.ridge import key_scale, low_rank_change, ridge_update, solve_directions


@pytest.fixture
def problem():
    """Three keys in twelve dimensions, a weight, and targets that other rows should read as."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(8, 12, generator=generator, dtype=torch.float64)
    keys = torch.randn(3, 12, generator=generator, dtype=torch.float64)
    targets = torch.randn(3, 12, generator=generator, dtype=torch.float64)
    return weight, keys, targets


def edited(weight, keys, targets, ridge, preserved=None):
    """Return the weight after an edit in its small form."""
    everything = keys if preserved is None else torch.cat([keys, preserved])
    left, right = low_rank_change(weight, targets - keys, solve_directions(keys, everything, ridge))
    return weight + left @ right


def published(weight, keys, targets, ridge):
    """LocoEdit's solution as the paper prints it, with W as d_text x d_out."""
    w = weight.T
    left = keys.T @ keys + ridge * torch.eye(keys.shape[1], dtype=keys.dtype)
    return (torch.linalg.inv(left) @ (keys.T @ targets @ w + ridge * w)).T


@pytest.mark.parametrize("ridge", [1e-3, 0.01, 1.0, 100.0])
def test_agrees_with_the_published_formula(problem, ridge):
    """The small form, the d x d form and the paper's own line are one solution."""
    weight, keys, targets = problem
    expected = published(weight, keys, targets, ridge)

    torch.testing.assert_close(edited(weight, keys, targets, ridge), expected, rtol=0, atol=1e-9)
    full = ridge_update(weight, keys, targets @ weight.T, ridge)
    torch.testing.assert_close(full, expected, rtol=0, atol=1e-9)


def test_the_gradient_of_the_objective_is_zero(problem):
    """The solution is where the objective of the paper has no slope."""
    weight, keys, targets = problem
    solution = edited(weight, keys, targets, 0.1).requires_grad_()

    answers, wanted = keys @ solution.T, targets @ weight.T
    loss = (answers - wanted).square().sum() + 0.1 * (solution - weight).square().sum()
    (slope,) = torch.autograd.grad(loss, solution)

    assert slope.abs().max() < 1e-9


def test_keys_go_to_their_targets_as_the_ridge_vanishes(problem):
    """Without a price every key gets the answer of its target."""
    weight, keys, targets = problem

    solution = edited(weight, keys, targets, 1e-12)

    torch.testing.assert_close(keys @ solution.T, targets @ weight.T, rtol=0, atol=1e-8)


def test_leaves_orthogonal_inputs_alone(problem):
    """A direction orthogonal to every key passes through the edit unchanged."""
    weight, keys, targets = problem
    bystander = torch.linalg.svd(keys).Vh[-1]  # [12], orthogonal to all three keys

    solution = edited(weight, keys, targets, 0.01)

    torch.testing.assert_close(solution @ bystander, weight @ bystander, rtol=0, atol=1e-12)


def test_a_huge_ridge_changes_nothing(problem):
    """The dearer a change, the smaller it is."""
    weight, keys, targets = problem

    solution = edited(weight, keys, targets, 1e12)

    torch.testing.assert_close(solution, weight, rtol=0, atol=1e-9)


def test_the_order_of_edits_does_not_matter(problem):
    """Keys that are solved together have no first and last."""
    weight, keys, targets = problem

    backwards = edited(weight, keys.flip(0), targets.flip(0), 0.01)

    torch.testing.assert_close(backwards, edited(weight, keys, targets, 0.01), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_preserved", [2, 40])
def test_preserved_keys_keep_their_answers(problem, n_preserved):
    """A preserved key keeps its answer where the moving ones do not span it."""
    weight, keys, targets = problem
    generator = torch.Generator().manual_seed(1)
    basis = torch.randn(2, 12, generator=generator, dtype=torch.float64)
    mix = torch.randn(n_preserved, 2, generator=generator, dtype=torch.float64)
    preserved = mix @ basis  # [n, 12], fewer or more rows than the input has dimensions

    solution = edited(weight, keys, targets, 1e-10, preserved)

    torch.testing.assert_close(preserved @ solution.T, preserved @ weight.T, rtol=0, atol=1e-5)
    torch.testing.assert_close(keys @ solution.T, targets @ weight.T, rtol=0, atol=1e-5)


def test_a_preserved_set_is_the_published_form_with_rows_that_stay(problem):
    """Preserving means keys whose target is themselves, in the same formula."""
    weight, keys, targets = problem
    preserved = torch.randn(5, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    rows, answers = torch.cat([keys, preserved]), torch.cat([targets, preserved])

    torch.testing.assert_close(
        edited(weight, keys, targets, 0.01, preserved),
        published(weight, rows, answers, 0.01),
        rtol=0,
        atol=1e-9,
    )


def test_the_change_has_no_more_ranks_than_keys(problem):
    """Three moving keys make a change of rank three, however many are preserved."""
    weight, keys, targets = problem
    preserved = torch.randn(20, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    change = edited(weight, keys, targets, 0.01, preserved) - weight

    assert torch.linalg.matrix_rank(change) == 3


def test_the_key_scale_is_the_mean_squared_norm():
    """The unit of a relative ridge can be worked out by hand."""
    assert key_scale(torch.tensor([[3.0, 4.0], [0.0, 1.0]])) == 13.0
