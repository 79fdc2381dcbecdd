"""Layer sets, windows and layer lists."""

import pytest
from pydantic import TypeAdapter

from loco_cli.errors import RequestError
from loco_cli.layers import LayerSet, sliding_windows


def test_a_window_is_half_open():
    """
    `LayerSet.window(8, 10)` is exactly layers 8 and 9.
    """
    window = LayerSet.window(8, 10)

    assert tuple(window) == (8, 9)
    assert len(window) == 2
    assert 9 in window
    assert 10 not in window


def test_an_empty_window_is_refused():
    """
    A range that is empty, reversed or starts below zero is not a window.
    """
    for start, stop in ((8, 8), (9, 8), (-1, 2)):
        with pytest.raises(ValueError, match=rf"layer range \[{start}, {stop}\] is empty"):
            LayerSet.window(start, stop)


def test_sliding_windows_reach_the_last_layer():
    """
    There are M - m + 1 windows; the pseudo-code of LocoGen would omit the last.
    """
    windows = sliding_windows(16, 2)

    assert len(windows) == 15
    assert (windows[0], windows[-1]) == (LayerSet.window(0, 2), LayerSet.window(14, 16))
    assert sliding_windows(3, 3) == (LayerSet.window(0, 3),)


def test_a_wrong_width_is_refused(golden):
    """
    A window has at least one layer and at most all of them.
    """
    for width in (0, 17):
        with golden.raises(RequestError, str(width), "16"):
            sliding_windows(16, width)


def test_a_range_in_a_list_includes_both_ends():
    """
    `1-3` is 1, 2 and 3; the result is sorted and has no duplicates.
    """
    lists = {
        "8": (8,),
        "8,9": (8, 9),
        "1-3,10,11": (1, 2, 3, 10, 11),
        " 9 , 8-9 ": (8, 9),
        "0-0": (0,),
    }

    assert {text: LayerSet.parse(text) for text in lists} == lists


def test_a_wrong_list_of_layers_is_refused(golden):
    """
    Text that is not a list of layers is refused, and so is a range that would fill the memory.
    """
    for text in ("", "8,", "a", "-1", "8-", "1-2-3", "9-8", "0-99999999999"):
        with golden.raises(RequestError, f"`{text}`"):
            LayerSet.parse(text)


def test_contiguous_layers_are_a_window():
    """
    A set has a half-open range exactly if no layer is missing in between.
    """
    assert LayerSet((9, 8)) == LayerSet.window(8, 10) == (8, 9)
    assert LayerSet.window(8, 10).range == (8, 10)
    assert LayerSet((8,)).range == (8, 9)
    assert LayerSet((1, 2, 10)).range is None
    assert LayerSet().range is None


def test_a_document_has_one_of_two_keys():
    """
    Contiguous layers are a range, others a list, and both are read back as the same set.
    """
    for layers, layer_range, listed in (
        ((8, 9), (8, 10), None),
        ((10, 2, 1, 2), None, (1, 2, 10)),
        ((), None, None),
    ):
        assert LayerSet(layers).to_keys() == {"layer_range": layer_range, "layers": listed}
        assert LayerSet.from_keys(layer_range, listed) == LayerSet(layers)


def test_a_record_has_layers_as_a_list():
    """
    A field of this type accepts a JSON list, sorts it, and serializes to a list.
    """
    adapter = TypeAdapter(LayerSet)

    assert adapter.validate_python([9, 8, 8]) == (8, 9)
    assert isinstance(adapter.validate_python([9, 8]), LayerSet)
    assert adapter.dump_python(LayerSet((1, 10)), mode="json") == [1, 10]
