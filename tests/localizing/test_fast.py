"""The fast search's decisions, on numbers small enough to do by hand."""

import random

import pytest

from loco_cli.layers import sliding_windows
from loco_cli.localizing import fast
from loco_cli.localizing.scoreboard import Scoreboard

ALL = tuple(range(16))
SHARES = [0.0] * 8 + [0.2, 0.5] + [0.0] * 6


def test_the_shortlist_holds_what_the_ranking_favours():
    """
    Of several widths there are fewer of the wide ones.
    """
    widths = (1, 2, 3, 4)
    found = [fast.shortlist(SHARES, width, widths) for width in widths]

    assert found[0][:2] == ((9,), (8,))
    assert found[1][0] == (8, 9)
    assert list(map(len, found)) == [3, 2, 1, 1]
    assert [len(layers) for layers in fast.shortlist(SHARES, 2, (2,))] == [2] * 4


@pytest.mark.parametrize(
    ("n_layers", "width"),
    [(16, 1), (16, 2), (16, 4), (32, 1), (33, 1), (34, 2), (70, 2), (128, 1), (5, 4), (3, 3)],
)
def test_a_second_look_leaves_no_layer_out(n_layers, width):
    """
    Every layer is in a window of the cover, and there are at most a few dozen.
    """
    cover = fast.cover(n_layers, width)

    assert {layer for window in cover for layer in window} == set(range(n_layers))
    assert len(cover) <= 2 * fast.N_DISJOINT_WINDOWS
    assert all(window[-1] < n_layers for window in cover)


@pytest.mark.parametrize(("n_layers", "wide"), [(32, 1), (33, 3)])
def test_a_second_look_is_as_fine_as_it_may(n_layers, wide):
    """
    Windows of the width that was asked for, until there are too many of them.
    """
    assert {len(window) for window in fast.cover(n_layers, 1)} == {wide}


def test_around_a_block_are_all_windows_that_touch_it():
    """
    A block of the cover is looked into with windows of the width that was asked for.
    """
    assert fast.windows_near((4, 5, 6), 2, 16) == ((3, 4), (4, 5), (5, 6), (6, 7))
    assert fast.windows_near((0, 1), 2, 16) == ((0, 1), (1, 2))
    assert fast.windows_near((15,), 1, 16) == ((14,), (15,))


def test_neighbours_are_beside_and_within():
    """
    A range is held against those one layer on, and for `width: auto` against narrower ones.
    """
    assert fast._neighbours((4, 5), 16, is_auto=False) == ((3, 4), (5, 6))
    assert fast._neighbours((4, 5), 16, is_auto=True) == ((3, 4), (5, 6), (4,), (5,))


@pytest.mark.parametrize(("n_windows", "n_rows"), [(15, 4), (58, 11), (274, 12), (10_000, 12)])
def test_many_layers_cost_no_more_than_some(n_windows, n_rows):
    """
    What comparing may cost is a share of the sweep, up to a number of rows that does not grow.
    """
    assert fast.comparison_budget(n_windows, 16) == n_rows * 16


def test_the_price_is_comparing_a_look_and_the_end():
    """
    Eleven rows, seven blocks and three windows around each of two on two runs, eight rows.
    """
    assert fast.max_images(16, (1, 2, 3, 4), 16) == 11 * 16 + (7 + 2 * 3) * 2 + 8 * 16


@pytest.mark.parametrize(("n_layers", "n_rows"), [(16, 11), (32, 12), (70, 12), (116, 12)])
def test_the_price_hardly_grows_with_the_layers(n_layers, n_rows):
    """
    Rows that do not grow, and two runs of some fifty windows at most.
    """
    rows = (n_rows + 8) * 16

    assert (
        rows < fast.max_images(n_layers, (1, 2, 3, 4), 16) <= rows + 2 * 3 * fast.N_DISJOINT_WINDOWS
    )


def test_a_scale_in_doubt_is_made_surer():
    """
    Where the best may be enough or not by what the full swap does, more of that is run.
    """
    values = {(): [1.0] * 8, ALL: [0.0, 0.3, 0.0, 0.3], (4,): [0.3] * 8, (3,): [0.9] * 8}
    values[5,] = values[3,]
    board = Scoreboard(values, 16, "lower", 0.9, True)
    clear = Scoreboard({**values, (4,): [-0.3] * 8}, 16, "lower", 0.9, True)

    assert fast.windows_needing_runs(board, board.best(), 4, 16, has_budget=True) == {ALL: 8}
    assert fast.windows_needing_runs(clear, clear.best(), 4, 16, has_budget=True) == {}


def test_a_tie_is_left_open():
    """
    What all runs there are would not tell apart is not run on, once it was seen twice per prompt.
    """
    wobble = [0.0, 0.1] * 4
    values = {(): [1.0] * 8, ALL: [0.0] * 8, (4,): wobble, (5,): wobble[::-1]}
    board = Scoreboard({**values, (3,): [0.9] * 8, (6,): [0.9] * 8}, 16, "lower", 0.9, True)

    assert [other.layers for other in board.rivals(board.best())] == [(5,)]
    assert fast.windows_needing_runs(board, board.best(), 4, 16, has_budget=True) == {}


def searched(effects, *, width, noise, n_prompts=4, n_all=16):
    """Return best window and number of pictures of a search among made-up effects."""
    rng = random.Random(0)
    values = {(): [1.0] * n_all, ALL: [0.0] * n_all}
    full = {w: [1 - e + rng.gauss(0, noise) for _ in range(n_all)] for w, e in effects.items()}
    n_made = 2 * n_all

    def ask(windows):
        nonlocal n_made
        for window, n in windows.items():
            n_made += max(0, n - len(values.get(window, ())))
            values[window] = full[window][: max(n, len(values.get(window, ())))]

    for one in width:
        ask(dict.fromkeys(fast.shortlist(SHARES, one, width), 1))
    while True:
        board = Scoreboard(values, 16, "lower", 0.9, len(width) > 1)
        best = board.best()
        has_budget = n_made < fast.comparison_budget(58, n_all)
        n_required = fast.windows_needing_runs(board, best, n_prompts, n_all, has_budget=has_budget)
        if not n_required:
            return best, n_made
        ask(n_required)


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1])
def test_a_planted_range_is_found_and_paid_for_once(noise):
    """
    The best is sure of itself after a few dozen pictures, each asked for once.
    """
    widths = (1, 2, 3, 4)
    windows = [tuple(w) for width in widths for w in sliding_windows(16, width)]
    effects = {w: min(1.0, 0.8 * (9 in w) + 0.22 * (8 in w)) for w in windows}

    best, n_made = searched(effects, width=widths, noise=noise)

    assert best.layers == (8, 9)
    assert best.n >= 8
    assert n_made < 32 + 60


def test_a_better_neighbour_is_found():
    """
    A range that the ranking put a layer too early is moved.
    """
    windows = [tuple(w) for w in sliding_windows(16, 2)]
    effects = {w: 0.3 * (9 in w) + 0.65 * (10 in w) for w in windows}

    assert searched(effects, width=(2,), noise=0.01)[0].layers == (9, 10)
