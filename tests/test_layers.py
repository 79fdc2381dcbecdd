"""Layers as integers, windows of them, and how both are written on a command line."""

import pytest

from loco_cli.errors import RequestError
from loco_cli.layers import LayerWindow, as_window, parse_layers, sliding_windows


def test_a_window_is_half_open():
    """
    `LayerWindow(8, 10)` is layers 8 and 9, and nothing else.
    """
    window = LayerWindow(8, 10)

    assert tuple(window) == (8, 9)
    assert len(window) == 2
    assert 9 in window
    assert 10 not in window


@pytest.mark.parametrize(("start", "stop"), [(8, 8), (9, 8), (-1, 2)])
def test_an_empty_window_is_refused(start, stop):
    """
    A range that holds nothing, runs backwards or begins below zero is no window.
    """
    with pytest.raises(RequestError, match=r"layer range \[.*\] is empty"):
        LayerWindow(start, stop)


def test_overlap_is_intersection_over_union():
    """
    The same layers give 1, layers apart 0, and one of three 1/3.
    """
    window = LayerWindow(8, 10)

    assert window.overlap((8, 9)) == 1
    assert window.overlap((1, 2)) == 0
    assert window.overlap((9, 10)) == pytest.approx(1 / 3)


def test_sliding_windows_reach_the_last_layer():
    """
    There are M - m + 1 windows; LocoGen's pseudo-code would miss the last.
    """
    windows = sliding_windows(16, 2)

    assert len(windows) == 15
    assert (windows[0], windows[-1]) == (LayerWindow(0, 2), LayerWindow(14, 16))
    assert sliding_windows(3, 3) == (LayerWindow(0, 3),)


@pytest.mark.parametrize("width", [0, 17])
def test_a_width_that_does_not_fit_is_refused(width):
    """
    A window is at least one layer wide and at most all of them.
    """
    with pytest.raises(RequestError, match=f"window width {width} is not between 1 and 16"):
        sliding_windows(16, width)


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("8", (8,)),
        ("8,9", (8, 9)),
        ("1-3,10,11", (1, 2, 3, 10, 11)),
        (" 9 , 8-9 ", (8, 9)),
        ("0-0", (0,)),
    ],
)
def test_a_list_of_layers_has_its_ends_included(text, layers):
    """
    `1-3` is 1, 2 and 3; the list comes sorted, each layer once.
    """
    assert parse_layers(text) == layers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not numbers and ranges"),
        ("8,", "is not numbers and ranges"),
        ("a", "is not numbers and ranges"),
        ("-1", "is not numbers and ranges"),
        ("8-", "is not numbers and ranges"),
        ("1-2-3", "is not numbers and ranges"),
        ("9-8", "runs backwards in `9-8`"),
        ("0-99999999999", "names layer 99999999999: no model has so many"),
    ],
)
def test_a_wrong_list_of_layers_is_refused(text, message):
    """
    What is no list is refused at once, one without end too.
    """
    with pytest.raises(RequestError, match=message):
        parse_layers(text)


def test_layers_that_touch_are_a_window():
    """
    A set is a window exactly where no layer is missing in between.
    """
    assert as_window((9, 8)) == LayerWindow(8, 10)
    assert as_window((8,)) == LayerWindow(8, 9)
    assert as_window((1, 2, 10)) is None
    assert as_window(()) is None
