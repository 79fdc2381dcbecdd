"""The decisions of the fast search, on made-up numbers."""

import random

from loco_cli.layers import sliding_windows
from loco_cli.localizing import fast
from loco_cli.localizing.scoreboard import Scoreboard

ALL = tuple(range(16))
SHARES = [0.0] * 8 + [0.2, 0.5] + [0.0] * 6


def test_the_shortlist_holds_the_windows_with_the_largest_shares():
    """With several widths, wider ones get fewer windows."""
    widths = (1, 2, 3, 4)
    found = [fast.shortlist(SHARES, width, widths) for width in widths]

    assert found[0][:2] == ((9,), (8,))
    assert found[1][0] == (8, 9)
    assert list(map(len, found)) == [3, 2, 1, 1]
    assert [len(layers) for layers in fast.shortlist(SHARES, 2, (2,))] == [2] * 4


def test_a_cover_contains_every_layer():
    """Every layer is in a window of the cover, which has a few dozen windows at most."""
    for n_layers, width in [(16, 1), (16, 4), (32, 1), (33, 1), (34, 2), (128, 1), (5, 4), (3, 3)]:
        cover = fast.cover(n_layers, width)

        assert {layer for window in cover for layer in window} == set(range(n_layers))
        assert len(cover) <= 2 * fast.N_DISJOINT_WINDOWS
        assert all(window[-1] < n_layers for window in cover)


def test_a_cover_is_as_fine_as_its_limit_allows():
    """Its windows have the requested width unless that takes too many windows."""
    assert {len(window) for window in fast.cover(32, 1)} == {1}
    assert {len(window) for window in fast.cover(33, 1)} == {3}


def test_windows_near_a_window_overlap_or_touch_it():
    """The windows near a block have the requested width and stay in the model."""
    assert fast.windows_near((4, 5, 6), 2, 16) == ((3, 4), (4, 5), (5, 6), (6, 7))
    assert fast.windows_near((0, 1), 2, 16) == ((0, 1), (1, 2))
    assert fast.windows_near((15,), 1, 16) == ((14,), (15,))


def test_neighbours_are_shifted_or_shortened():
    """A window's neighbours are shifted by one layer, and shortened for `width: auto`."""
    assert fast._neighbours((4, 5), 16, is_auto=False) == ((3, 4), (5, 6))
    assert fast._neighbours((4, 5), 16, is_auto=True) == ((3, 4), (5, 6), (4,), (5,))


def test_the_comparison_budget_is_limited():
    """The budget is a share of the sweep, with a lower and an upper limit."""
    budgets = [fast.comparison_budget(n, 16) for n in (15, 58, 274, 10_000)]

    assert budgets == [n_rows * 16 for n_rows in (4, 11, 12, 12)]


def test_the_cost_barely_grows_with_the_layers():
    """The upper limit is constant in rows, plus two runs of some fifty windows."""
    for n_layers, n_rows in ((16, 11), (32, 12), (70, 12), (116, 12)):
        rows = (n_rows + 8) * 16

        limit = fast.max_images(n_layers, (1, 2, 3, 4), 16)
        assert rows < limit <= rows + 2 * 3 * fast.N_DISJOINT_WINDOWS


def test_a_decisive_scale_gets_more_runs():
    """The full swap gets more runs only if its error decides whether the best passes."""
    values = {(): [1.0] * 8, ALL: [0.0, 0.3, 0.0, 0.3], (4,): [0.3] * 8, (3,): [0.9] * 8}
    values[5,] = values[3,]
    board = Scoreboard(values, 16, "lower", 0.9, True)
    clear = Scoreboard({**values, (4,): [-0.3] * 8}, 16, "lower", 0.9, True)

    assert fast.windows_needing_runs(board, board.best(), 4, 16, has_budget=True) == {ALL: 8}
    assert fast.windows_needing_runs(clear, clear.best(), 4, 16, has_budget=True) == {}


def test_an_unresolvable_tie_gets_no_more_runs():
    """A tie stays open once two runs per prompt predict that all runs leave it open."""
    wobble = [0.0, 0.1] * 4
    values = {(): [1.0] * 8, ALL: [0.0] * 8, (4,): wobble, (5,): wobble[::-1]}
    board = Scoreboard({**values, (3,): [0.9] * 8, (6,): [0.9] * 8}, 16, "lower", 0.9, True)

    assert [other.layers for other in board.rivals(board.best())] == [(5,)]
    assert fast.windows_needing_runs(board, board.best(), 4, 16, has_budget=True) == {}


def searched(effects, *, width, noise, n_prompts=4, n_all=16):
    """Return the best window and the number of pictures of a search with made-up effects."""
    rng = random.Random(0)
    values = {(): [1.0] * n_all, ALL: [0.0] * n_all}
    full = {w: [1 - e + rng.gauss(0, noise) for _ in range(n_all)] for w, e in effects.items()}
    n_drawn = 2 * n_all

    def run(windows):
        nonlocal n_drawn
        for window, n in windows.items():
            n_drawn += max(0, n - len(values.get(window, ())))
            values[window] = full[window][: max(n, len(values.get(window, ())))]

    for one in width:
        run(dict.fromkeys(fast.shortlist(SHARES, one, width), 1))
    while True:
        board = Scoreboard(values, 16, "lower", 0.9, len(width) > 1)
        best = board.best()
        has_budget = n_drawn < fast.comparison_budget(58, n_all)
        n_required = fast.windows_needing_runs(board, best, n_prompts, n_all, has_budget=has_budget)
        if not n_required:
            return best, n_drawn
        run(n_required)


def test_a_planted_range_is_found():
    """The race finds the planted range within a few dozen pictures, without repeats."""
    widths = (1, 2, 3, 4)
    windows = [tuple(w) for width in widths for w in sliding_windows(16, width)]
    effects = {w: min(1.0, 0.8 * (9 in w) + 0.22 * (8 in w)) for w in windows}

    for noise in (0.0, 0.02, 0.1):
        best, n_drawn = searched(effects, width=widths, noise=noise)

        assert best.layers == (8, 9)
        assert best.n >= 8
        assert n_drawn < 32 + 60


def test_a_better_neighbour_wins():
    """A range that the ranking placed one layer too early moves to the right place."""
    windows = [tuple(w) for w in sliding_windows(16, 2)]
    effects = {w: 0.3 * (9 in w) + 0.65 * (10 in w) for w in windows}

    assert searched(effects, width=(2,), noise=0.01)[0].layers == (9, 10)
