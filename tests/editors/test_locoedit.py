"""Which positions move where, and what an edit of them does."""

import pytest
import torch

from loco_cli.editors.locoedit import Aligned, moving_rows, solve
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
