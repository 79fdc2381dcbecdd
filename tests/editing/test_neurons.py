"""Which channels a concept is told by, and what holding them at their plain mean does."""

import pytest
import torch

from loco_cli.editing.locoedit import Aligned
from loco_cli.editing.neurons import Contrast, contrast_of, hold, strongest, z_scores
from loco_cli.editing.ridge import solve_directions
from loco_cli.errors import EditError

N, D_OUT, D_TEXT = 3, 8, 32


@pytest.fixture
def problem():
    """A projection, two contrasts of five prompts, and four keys of each concept."""
    torch.manual_seed(0)
    weight = torch.randn(D_OUT, D_TEXT).double()
    contrasts = tuple(Contrast(torch.randn(5, D_TEXT), torch.randn(5, D_TEXT)) for _ in range(2))
    return weight, contrasts, (torch.randn(4, D_TEXT), torch.randn(4, D_TEXT))


def held(weight, contrasts, keys, ridge=1e-12, kept=None, n=N):
    moving = torch.cat(keys)
    rows = moving if kept is None else torch.cat([moving, kept])
    return hold(weight, contrasts, keys, solve_directions(moving, rows, ridge), n)


def edited(weight, *problem, **settings):
    left, right = held(weight, *problem, **settings).change(weight)
    return weight + left @ right


def test_z_is_the_difference_over_its_standard_error():
    """Two prompts at 1 and 3 against two at 0 and 0: mean 2, population variance 1, so 2 / 0.5."""
    concept, plain = torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1)

    assert z_scores(concept, plain).tolist() == pytest.approx([2 / 0.5**0.5])


def test_z_of_what_never_varies_is_finite():
    """A channel that always differs alike is the strongest, one that never differs is none."""
    z = z_scores(torch.tensor([[2.0, 1.0]] * 2), torch.tensor([[1.0, 1.0]] * 2))

    assert z[0] > 1e6
    assert z[1] == 0


def test_the_strongest_go_by_size_and_then_by_place():
    """The sign of z says nothing; of equals the first is taken."""
    assert strongest(torch.tensor([1.0, -3.0, 3.0, 0.5]), 3).tolist() == [1, 2, 0]


@pytest.mark.parametrize("n", [0, D_OUT + 1])
def test_no_more_neurons_than_channels(n):
    """A projection of 8 channels has no ninth neuron."""
    with pytest.raises(EditError, match=f"{n} neurons are asked for, a projection has {D_OUT}"):
        strongest(torch.zeros(D_OUT), n)


@pytest.mark.parametrize(("position", "found"), [("last-subject", (13, 22)), ("last", (15, 25))])
def test_states_are_read_at_one_position(position, found):
    """The subject's last token answers to the target's last word, the last position to the last."""
    source = torch.arange(10.0, 16)[:, None]
    pair = Aligned(source, source + 10, subject=(2, 3), source_end=4, target_end=3)

    contrast = contrast_of([pair, pair], position)

    assert (contrast.concept[0].item(), contrast.plain[0].item()) == found


def test_a_single_prompt_is_refused():
    """What has no spread has no z-score."""
    pair = Aligned(torch.zeros(4, 1), torch.zeros(4, 1), (1,), 2, 2)

    with pytest.raises(EditError, match="one source prompt"):
        contrast_of([pair], "last-subject")


def test_chosen_channels_answer_their_plain_mean(problem):
    """
    At a ridge of next to nothing, independent keys get the mean, written out as the paper has it.
    """
    weight, (contrast, _), (keys, _) = problem
    chosen = strongest(contrast.z_scores(weight), N)

    answers = keys.double() @ edited(weight, (contrast,), (keys,)).T  # [4, d_out]

    mean = (contrast.plain.double() @ weight.T).mean(0)[chosen]
    torch.testing.assert_close(answers[:, chosen], mean.expand(4, N), rtol=0, atol=1e-8)
    assert held(weight, (contrast,), (keys,)).residual(weight) < 1e-8


@pytest.mark.parametrize("n", [1, N, D_OUT])
def test_all_other_rows_stay(problem, n):
    """N rows of the weight change and no other bit does, so that N is the most its rank can be."""
    weight, (contrast, _), (keys, _) = problem
    chosen = strongest(contrast.z_scores(weight), n)

    change = edited(weight, (contrast,), (keys,), n=n) - weight

    assert change.any(1).nonzero()[:, 0].tolist() == sorted(chosen.tolist())
    assert torch.linalg.matrix_rank(change, rtol=1e-9) == min(n, len(keys))


def test_orthogonal_inputs_stay(problem):
    """What is orthogonal to every key passes as before."""
    weight, (contrast, _), (keys, _) = problem
    bystander = torch.linalg.svd(keys.double()).Vh[-1]

    after = edited(weight, (contrast,), (keys,), ridge=0.1) @ bystander

    torch.testing.assert_close(after, weight @ bystander, rtol=0, atol=1e-10)


def test_a_channel_is_a_ridge_regression(problem):
    """Each chosen row is the plain minimum of its own problem, preserved keys among its rows."""
    weight, (contrast, _), (keys, _) = problem
    kept, ridge = torch.randn(6, D_TEXT).double(), 0.3
    found = edited(weight, (contrast,), (keys.double(),), ridge, kept)

    x = torch.cat([keys.double(), kept])
    for channel in strongest(contrast.z_scores(weight), N):
        row = weight[channel]
        y = torch.cat([(contrast.plain.double() @ row).mean().expand(4), kept @ row])
        gram = x.T @ x + ridge * torch.eye(D_TEXT).double()
        expected = torch.linalg.solve(gram, x.T @ y + ridge * row)
        torch.testing.assert_close(found[channel], expected, rtol=0, atol=1e-10)


def test_a_bias_drops_out(problem):
    """With a bias the mean holds it once, as does the answer, so that the row is the same."""
    weight, (contrast, _), (keys, _) = problem
    bias = torch.randn(D_OUT).double()
    chosen = strongest(contrast.z_scores(weight), N)

    answers = keys.double() @ edited(weight, (contrast,), (keys,)).T + bias

    mean = (contrast.plain.double() @ weight.T + bias).mean(0)[chosen]
    torch.testing.assert_close(answers[:, chosen], mean.expand(4, N), rtol=0, atol=1e-8)


def test_the_order_of_concepts_does_not_matter(problem):
    """Two concepts in one solve give the same weight either way round."""
    weight, contrasts, keys = problem

    one = edited(weight, contrasts, keys, 0.1)
    other = edited(weight, contrasts[::-1], keys[::-1], 0.1)

    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_a_channel_keeps_its_answers_to_a_concept_that_did_not_choose_it(problem):
    """What the first concept chose is held for its keys, and stays for the second's."""
    weight, contrasts, keys = problem
    first, second = (set(strongest(c.z_scores(weight), N).tolist()) for c in contrasts)
    only = sorted(first - second)

    answers = keys[1].double() @ edited(weight, contrasts, keys).T

    assert only
    before = keys[1].double() @ weight.T
    torch.testing.assert_close(answers[:, only], before[:, only], rtol=0, atol=1e-8)


def test_the_residual_is_what_one_row_cannot_answer(problem):
    """Two keys that are the same but for their size cannot both get one mean."""
    weight, (contrast, _), _ = problem
    key = torch.randn(1, D_TEXT).double()
    keys = (torch.cat([key, 3 * key]),)
    chosen = strongest(contrast.z_scores(weight), N)

    answer = (edited(weight, (contrast,), keys, ridge=1e-6) @ key[0])[chosen]

    # least squares: w' k = mean (1 + 3) / (1 + 9)
    torch.testing.assert_close(answer, 0.4 * contrast.means(weight)[chosen], rtol=0, atol=1e-6)
    assert 0 < held(weight, (contrast,), keys, ridge=1e-6).residual(weight) < 1
