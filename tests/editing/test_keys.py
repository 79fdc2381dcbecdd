"""The positions of a prompt that move, and their targets."""

import pytest
import torch

from loco_cli.editing.keys import AlignedPair, Problem
from loco_cli.errors import EditError
from loco_cli.recipe.load import recipe_from_text


def states(*numbers):
    """Return one-dimensional states that encode a position: 10 is position 0 of the source."""
    return torch.tensor([[float(n)] for n in numbers])


@pytest.fixture
def aligned():
    """Source `<s> a cat by van gogh </s> pad`, target `<s> a cat </s> pad pad pad pad`."""
    return AlignedPair(
        source=states(10, 11, 12, 13, 14, 15, 16, 17),
        target=states(20, 21, 22, 23, 24, 25, 26, 27),
        subject=(4, 5),
        source_end=6,
        target_end=3,
    )


def problem_of(pair, tokens):
    """Return the problem of one pair that preserves nothing."""
    recipe = recipe_from_text("van gogh style")
    settings = recipe.edit.model_copy(update={"tokens": tokens})
    return Problem(recipe.model_copy(update={"edit": settings}), ((pair,),), {})


def rows(aligned, tokens):
    """Return keys and targets as pairs of encoded positions."""
    keys, targets = problem_of(aligned, tokens).rows(0)
    return list(zip(keys[:, 0].tolist(), targets[:, 0].tolist(), strict=True))


def test_an_empty_target_uses_its_end_token(aligned):
    """A subject without a target word moves to the end token, never to the start token."""
    empty = AlignedPair(aligned.source, aligned.target, aligned.subject, source_end=6, target_end=1)

    assert rows(empty, "subject-to-end") == [(15, 21), (16, 21), (17, 22)]


def test_rows_in_place_are_left_out(aligned, golden):
    """A key that equals its target does not move."""
    same = AlignedPair(aligned.source, aligned.source, aligned.subject, 6, 6)

    with golden.raises(EditError):
        problem_of(same, "subject-to-end").rows(0)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ("last-subject", [(15, 22)]),
        ("subject-to-end", [(15, 22), (16, 23), (17, 24)]),
        ("all", [(10, 20), (11, 21), (12, 22), (13, 23), (14, 22), (15, 22), (16, 23), (17, 24)]),
    ],
)
def test_tokens_select_the_positions_that_move(aligned, tokens, expected):
    """
    The subject moves to the target's last word, each later position to the one as far from its end.

    With `all`, positions before the subject keep their place.
    """
    assert rows(aligned, tokens) == expected
