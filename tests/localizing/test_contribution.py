"""The choice by contribution, on made-up numbers."""

from loco_cli.layers import LayerSet
from loco_cli.localizing.contribution import _likely_windows, _subject_mask


def test_windows_are_ordered_by_contribution():
    """Three windows of the first width and one of each other; ties go to the first."""
    found = _likely_windows([0.0, 5.0, 0.0, 4.0, 4.0, 0.0], (1, 2, 3))

    first = (LayerSet.window(1, 2), LayerSet.window(3, 4), LayerSet.window(4, 5))
    assert found == (*first, LayerSet.window(3, 5), LayerSet.window(1, 4))
    assert len(found) == 5


def test_the_mask_covers_the_subject_and_later_tokens():
    """The mask starts at the subject's first token and includes end and padding."""
    # <start> a cat by mon et <end>, then padding
    offsets = [(0, 0), (0, 1), (2, 5), (6, 8), (9, 12), (12, 14), (0, 0)]

    assert _subject_mask(offsets, 9, 9) == [False] * 4 + [True] * 5
