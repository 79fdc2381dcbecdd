"""Which positions of a prompt move where."""

import pytest
import torch

from loco_cli.editing.keys import AlignedPair, Problem
from loco_cli.errors import EditError
from loco_cli.recipe.load import recipe_from_text


def states(*numbers):
    """Return one-dimensional states that name their position: 10 is position 0 of the source."""
    return torch.tensor([[float(n)] for n in numbers])


@pytest.fixture
def aligned():
    """
    Source `<s> a cat by van gogh </s> pad`, target `<s> a cat </s> pad pad pad pad`.

    The subject stands at 4 and 5, the source ends at 6, the target at 3.
    """
    return AlignedPair(
        source=states(10, 11, 12, 13, 14, 15, 16, 17),
        target=states(20, 21, 22, 23, 24, 25, 26, 27),
        subject=(4, 5),
        source_end=6,
        target_end=3,
    )


def problem_of(pair, tokens):
    """Return the problem of one pair, that preserves nothing."""
    recipe = recipe_from_text("van gogh style")
    settings = recipe.edit.model_copy(update={"tokens": tokens})
    return Problem(recipe.model_copy(update={"edit": settings}), ((pair,),), {})


def rows(aligned, tokens):
    """Return the rows as pairs of the numbers that name their positions."""
    keys, targets = problem_of(aligned, tokens).rows(0)
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
    empty = AlignedPair(aligned.source, aligned.target, aligned.subject, source_end=6, target_end=1)

    assert rows(empty, "subject-to-end") == [(15, 21), (16, 21), (17, 22)]


def test_rows_in_place_are_left_out(aligned, golden):
    """A position that already reads as its target is no key."""
    same = AlignedPair(aligned.source, aligned.source, aligned.subject, 6, 6)

    with golden.raises(EditError):
        problem_of(same, "subject-to-end").rows(0)
