"""Layers as integers, windows of them, and how both are written on a command line."""

import pytest
from pydantic import TypeAdapter

from loco_cli.errors import RequestError
from loco_cli.layers import LayerSet, sliding_windows


def test_a_window_is_half_open():
    """
    `LayerSet.window(8, 10)` is layers 8 and 9, and nothing else.
    """
    window = LayerSet.window(8, 10)

    assert tuple(window) == (8, 9)
    assert len(window) == 2
    assert 9 in window
    assert 10 not in window


@pytest.mark.parametrize(("start", "stop"), [(8, 8), (9, 8), (-1, 2)])
def test_an_empty_window_is_refused(start, stop):
    """
    A range that holds nothing, runs backwards or begins below zero is no window.
    """
    with pytest.raises(ValueError, match=r"layer range \[.*\] is empty"):
        LayerSet.window(start, stop)


def test_sliding_windows_reach_the_last_layer():
    """
    There are M - m + 1 windows; LocoGen's pseudo-code would miss the last.
    """
    windows = sliding_windows(16, 2)

    assert len(windows) == 15
    assert (windows[0], windows[-1]) == (LayerSet.window(0, 2), LayerSet.window(14, 16))
    assert sliding_windows(3, 3) == (LayerSet.window(0, 3),)


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
    assert LayerSet.parse(text) == layers


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
        LayerSet.parse(text)


def test_layers_that_touch_are_a_window():
    """
    A set is a half-open range exactly where no layer is missing in between.
    """
    assert LayerSet((9, 8)) == LayerSet.window(8, 10) == (8, 9)
    assert LayerSet.window(8, 10).range == (8, 10)
    assert LayerSet((8,)).range == (8, 9)
    assert LayerSet((1, 2, 10)).range is None
    assert LayerSet().range is None


@pytest.mark.parametrize(
    ("layers", "keys"),
    [
        ((8, 9), {"layer_range": (8, 10), "layers": None}),
        ((10, 2, 1, 2), {"layer_range": None, "layers": (1, 2, 10)}),
        ((), {"layer_range": None, "layers": None}),
    ],
)
def test_a_document_names_layers_by_one_of_two_keys(layers, keys):
    """
    Layers that touch are a range, others a list, and either is read back as the same set.
    """
    assert LayerSet(layers).to_keys() == keys
    assert LayerSet.from_keys(**keys) == LayerSet(layers)


def test_a_record_holds_layers_as_a_list():
    """
    A field of the type takes a JSON list, sorts it, and writes a list.
    """
    adapter = TypeAdapter(LayerSet)

    assert adapter.validate_python([9, 8, 8]) == (8, 9)
    assert isinstance(adapter.validate_python([9, 8]), LayerSet)
    assert adapter.dump_python(LayerSet((1, 10)), mode="json") == [1, 10]
