"""Which positions move where, and what an edit of them does."""

import pytest
import torch

from loco_cli.editing.locoedit import Aligned, moving_rows, solve
from loco_cli.errors import EditError


def states(*numbers):
    """Return one-dimensional states that name their position: 10 is position 0 of the source."""
    return torch.tensor([[float(n)] for n in numbers])


@pytest.fixture
def aligned():
    """
    Source `<s> a cat by van gogh </s> pad`, target `<s> a cat </s> pad pad pad pad`.

    The subject stands at 4 and 5, the source ends at 6, the target at 3.
    """
    return Aligned(
        source=states(10, 11, 12, 13, 14, 15, 16, 17),
        target=states(20, 21, 22, 23, 24, 25, 26, 27),
        subject=(4, 5),
        source_end=6,
        target_end=3,
    )


def rows(aligned, tokens):
    """Return the rows as pairs of the numbers that name their positions."""
    keys, targets = moving_rows([aligned], tokens)
    return list(zip(keys[:, 0].tolist(), targets[:, 0].tolist(), strict=True))


def test_last_subject_is_one_row_a_prompt(aligned):
    """The paper's form sends the subject's last token to the target's last word."""
    assert rows(aligned, "last-subject") == [(15, 22)]


def test_subject_to_end_takes_end_and_padding_along(aligned):
    """Every later position reads as the one equally far from the target's end."""
    assert rows(aligned, "subject-to-end") == [(15, 22), (16, 23), (17, 24)]


def test_all_moves_the_whole_prompt(aligned):
    """What stands before the subject keeps its place; the subject's tokens read as its last one."""
    assert rows(aligned, "all") == [
        *[(10, 20), (11, 21), (12, 22), (13, 23)],
        *[(14, 22), (15, 22), (16, 23), (17, 24)],
    ]


def test_the_empty_prompt_answers_with_its_end(aligned):
    """A subject that goes to nothing reads as the end token, never as the start token."""
    empty = Aligned(aligned.source, aligned.target, aligned.subject, source_end=6, target_end=1)

    assert rows(empty, "subject-to-end") == [(15, 21), (16, 21), (17, 22)]


def test_rows_in_place_are_left_out(aligned):
    """A position that already reads as its target is no key."""
    same = Aligned(aligned.source, aligned.source, aligned.subject, 6, 6)

    with pytest.raises(EditError, match="nothing to edit"):
        moving_rows([same], "subject-to-end")


def test_a_relative_ridge_is_a_multiple_of_the_keys_scale():
    """`0.5x` of keys of squared norm 4 is the ridge 2."""
    keys = torch.tensor([[2.0, 0.0]])

    solution = solve(keys, torch.tensor([[0.0, 2.0]]), torch.zeros(0, 2), 0.5, relative=True)

    assert solution.ridge == 2.0
    assert solution.n_keys == 1
    # the key gets 4 / (4 + 2) of the way, so a third is missing
    assert solution.residual == pytest.approx(1 / 3)


def test_drift_is_the_worst_preserved_key():
    """The drift shows a preserved key that the edit bends, not one that it leaves alone."""
    keys, targets = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    far, near = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.1]])

    assert solve(keys, targets, far, 0.01, relative=False).drift == pytest.approx(0.0, abs=1e-9)
    assert solve(keys, targets, near, 0.01, relative=False).drift > 0.01


def test_a_solve_without_finite_answer_is_one_sentence():
    """Two moving keys that are the same, at a ridge of next to nothing, have no solution."""
    keys, targets = torch.tensor([[2.0, 0.0]] * 2), torch.tensor([[0.0, 2.0]] * 2)

    with pytest.raises(EditError) as caught:
        solve(keys, targets, torch.zeros(0, 2), 1e-320, relative=False)

    assert caught.value.message.startswith("the solve has no finite answer at ridge ")
    assert caught.value.hint == "raise `--ridge`"


@pytest.fixture
def crowded():
    """Five keys that move, and twelve of rank 9 that must not, in 16 directions."""
    torch.manual_seed(0)
    keys, targets = torch.randn(5, 16), torch.randn(5, 16)
    return keys, targets, torch.randn(12, 9).double() @ torch.randn(9, 16).double()


def moved_by(solution, rows):
    return rows.double() @ solution.directions.T @ solution.shift


def test_fixed_keys_are_kept_exactly(crowded):
    """
    No key of the span moves, however small the ridge; the drift says so.
    """
    keys, targets, fixed = crowded

    solution = solve(keys, targets, torch.zeros(0, 16), 1e-6, relative=True, fixed=fixed)

    assert moved_by(solution, fixed).abs().max() < 1e-9
    assert solution.drift < 1e-9


def test_moving_keys_go_as_far_as_the_room_allows(crowded):
    """
    Five keys with seven directions to themselves reach their targets; two directions are too few.
    """
    keys, targets, fixed = crowded
    more = torch.cat([fixed, torch.randn(5, 16)])  # rank 14
    nothing = torch.zeros(0, 16)

    with_room = solve(keys, targets, nothing, 1e-9, relative=True, fixed=fixed)
    without = solve(keys, targets, nothing, 1e-9, relative=True, fixed=more)

    wanted = (targets - keys).double()
    torch.testing.assert_close(moved_by(with_room, keys), wanted, rtol=0, atol=1e-6)
    assert with_room.residual < 1e-7
    # the least residual there can be: a projection on what two free directions reach
    free = torch.linalg.svd(more.double()).Vh[14:]
    reach, _ = torch.linalg.qr(keys.double() @ free.T)
    least = (wanted - reach @ reach.T @ wanted).norm() / wanted.norm()
    assert without.residual == pytest.approx(least.item(), abs=1e-6)


def test_fixed_keys_are_rows_of_unbounded_weight(crowded):
    """
    The null-space form is the limit of the ridge form as preserved rows weigh more and more.
    """
    keys, targets, fixed = crowded
    exact = solve(keys, targets, torch.zeros(0, 16), 0.1, relative=False, fixed=fixed)
    errors = [
        (
            solve(keys, targets, weight * fixed, 0.1, relative=False).directions - exact.directions
        ).norm()
        / exact.directions.norm()
        for weight in (1e1, 1e2, 1e3)
    ]

    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    assert errors[2] < 1e-5


@pytest.mark.parametrize(
    ("n_fixed", "message"),
    [
        (16, "the 16 keys to be kept exactly fill all 16 directions: none may move"),
        (14, " leave 2 of 16 directions free, in which the keys to be moved have "),
    ],
)
def test_keys_without_room_are_refused(n_fixed, message):
    """
    What is kept exactly must leave the keys to be moved somewhere to go.
    """
    fixed = torch.eye(16)[:n_fixed]
    keys = torch.eye(16)[:3]

    with pytest.raises(EditError) as caught:
        solve(keys, torch.zeros(3, 16), torch.zeros(0, 16), 0.1, relative=False, fixed=fixed)

    assert message in caught.value.message


def test_preserved_rows_join_fixed_ones(crowded):
    """
    A row of the ridge system still pulls, within what the fixed keys leave free.
    """
    keys, targets, fixed = crowded
    kept = torch.randn(4, 16)

    alone = solve(keys, targets, kept[:0], 0.1, relative=True, fixed=fixed)
    together = solve(keys, targets, kept, 0.1, relative=True, fixed=fixed)

    assert moved_by(together, kept).norm() < moved_by(alone, kept).norm()
    assert moved_by(together, fixed).abs().max() < 1e-9


@pytest.mark.parametrize(
    ("fixed", "keys", "message"),
    [
        (torch.eye(4), torch.eye(4)[:1], "the 4 keys to be kept exactly fill all 4 directions"),
        (torch.eye(4)[:2], torch.eye(4)[:1], "leave 2 of 4 directions free, in which"),
    ],
)
def test_no_room_is_one_sentence(fixed, keys, message):
    """
    Preserved keys that fill everything, or all that the moving keys have, leave nothing to edit.
    """
    with pytest.raises(EditError, match=message) as caught:
        solve(keys, keys + 1, fixed[:0], 0.1, relative=True, fixed=fixed)

    assert "ridge" in caught.value.hint
