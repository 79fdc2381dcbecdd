"""The choice by contribution, on numbers small enough to do by hand."""

from loco_cli.layers import LayerSet
from loco_cli.localizing.contribution import _likely_windows, _subject_mask


def test_the_windows_that_add_most_are_tried():
    """
    Three of the first width, one of every other, largest first; the first of equals is taken.
    """
    found = _likely_windows([0.0, 5.0, 0.0, 4.0, 4.0, 0.0], (1, 2, 3))

    first = (LayerSet.window(1, 2), LayerSet.window(3, 4), LayerSet.window(4, 5))
    assert found == (*first, LayerSet.window(3, 5), LayerSet.window(1, 4))
    assert len(found) == 5


def test_the_subject_is_heard_to_the_end():
    """
    Its first token and all behind it count, end and padding with them; start and words before not.
    """
    # <start> a cat by mon et <end>, then padding
    offsets = [(0, 0), (0, 1), (2, 5), (6, 8), (9, 12), (12, 14), (0, 0)]

    assert _subject_mask(offsets, 9, 9) == [False] * 4 + [True] * 5
