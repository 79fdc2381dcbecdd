"""The estimates of the scoreboard, on made-up numbers."""

import pytest

from loco_cli.localizing.fast import windows_needing_runs
from loco_cli.localizing.scoreboard import Scoreboard

ALL = tuple(range(16))


def board_of(values, *, wanted=0.9, is_auto=True, better="lower", max_width=None):
    full = {(): [1.0] * 4, ALL: [0.0] * 4}
    return Scoreboard({**full, **values}, 16, better, wanted, is_auto, max_width)


def test_effects_are_paired_by_run():
    """A change compares the same prompts and seeds; the scale is the mean over all runs."""
    values = {(): [1.0, 0.6], ALL: [0.0, 0.0], (3,): [0.2], (4,): [0.2, -0.2]}
    board = Scoreboard(values, 16, "lower", 0.9, True)

    assert board.scale == pytest.approx(0.8)
    assert board.estimate((3,)).effect == pytest.approx(1.0)
    assert board.estimate((3,)).stderr == float("inf")
    assert board.estimate((4,)).effect == pytest.approx(1.0)
    assert board.estimate((4,)).stderr == pytest.approx(0.0)


def test_the_narrowest_window_above_the_threshold_is_best():
    """`width: auto` prefers width to effect, unless no window passes the threshold."""
    values = {(3,): [0.4] * 4, (3, 4): [0.05] * 4, (7, 8): [0.08] * 4, (3, 4, 5): [0.0] * 4}

    assert board_of(values).best().layers == (3, 4)
    assert board_of(values, wanted=0.3).best().layers == (3,)
    assert board_of(values, is_auto=False).best().layers == (3, 4, 5)
    assert board_of(values, wanted=1.1).best().layers == (3, 4, 5)


def test_a_window_of_the_cover_is_never_chosen():
    """Windows wider than `max_width` are neither best nor rivals."""
    values = {(3, 4): [0.6] * 4, (5, 6): [0.6, 0.7, 0.6, 0.6], (2, 3, 4, 5, 6): [0.1] * 4}

    board = board_of(values, is_auto=False, max_width=2)

    assert board.best().layers == (3, 4)
    assert [other.layers for other in board.rivals(board.best())] == [(5, 6)]
    assert board_of(values, is_auto=False).best().layers == (2, 3, 4, 5, 6)


def test_rivals_are_within_two_standard_errors():
    """Clearly worse windows are eliminated, and so are wider ones once the best passes."""
    board = board_of(
        {
            (3,): [0.05, 0.06, 0.05, 0.06],
            (4,): [0.04, 0.08, 0.05, 0.06],
            (5,): [0.9, 0.9, 0.9, 0.8],
            (3, 4): [0.0, 0.0, 0.0, 0.0],
        }
    )

    assert [other.layers for other in board.rivals(board.best())] == [(4,)]


def test_the_scale_must_be_significant():
    """A change that is within the noise or in the wrong direction is not significant."""
    assert board_of({}).is_scale_significant
    assert not Scoreboard(
        {(): [0.5, 0.4, 0.6], ALL: [0.6, 0.4, 0.5]}, 16, "lower", 0.9, True
    ).is_scale_significant
    assert not Scoreboard(
        {(): [0.2] * 4, ALL: [0.5] * 4}, 16, "lower", 0.9, True
    ).is_scale_significant
    assert Scoreboard({(): [0.2] * 4, ALL: [0.5] * 4}, 16, "higher", 0.9, True).is_scale_significant
    assert not Scoreboard({(): [0.5], ALL: [0.5]}, 16, "lower", 0.9, True).is_scale_significant


def test_the_scale_error_counts_distinct_pictures():
    """Runs that share a full-swap picture count as one sample of the scale."""
    values = {(): [1.0] * 4, ALL: [0.0, 0.4, 0.0, 0.4]}
    apart = Scoreboard(values, 16, "lower", 0.9, True)
    shared = Scoreboard(values, 16, "lower", 0.9, True, full_swap_ids=(0, 1, 0, 1))

    assert apart.scale == shared.scale == pytest.approx(0.8)
    assert apart.scale_error == pytest.approx(0.2309 / 2 / 0.8, abs=1e-3)
    assert shared.scale_error == pytest.approx(0.2828 / 2**0.5 / 0.8, abs=1e-3)
    assert shared.threshold == pytest.approx(0.9 * 0.75)
    assert not shared.has_more_full_swaps(2)
    assert apart.has_more_full_swaps(2)


def test_two_runs_can_eliminate_a_window():
    """After two runs a rival needs half of the best effect."""
    near, far = [0.5, 0.5], [0.6, 0.6]
    board = board_of({(4,): [0.1] * 4, (3,): far, (5,): near}, wanted=0.8)

    assert [other.layers for other in board.rivals(board.best())] == [(5,)]


def test_one_picture_has_no_scale_error():
    """With one full-swap picture, the threshold stays and the prompts give the variance."""
    values = {(): [0.8, 0.7, 0.9], ALL: [0.3, 0.3, 0.3]}

    shared = Scoreboard(values, 16, "lower", 0.9, True, full_swap_ids=(0, 0, 0))
    weak = Scoreboard({**values, ALL: [0.78] * 3}, 16, "lower", 0.9, True, full_swap_ids=(0, 0, 0))

    assert shared.scale_error is None
    assert shared.threshold == 0.9
    assert shared.is_scale_significant
    assert not weak.is_scale_significant
    assert Scoreboard(values, 16, "lower", 0.9, True).scale_error == pytest.approx(0.1155, abs=1e-3)


def test_ties_do_not_block_other_rivals():
    """Rivals that no run can separate from the best give way to a rival with few runs."""
    tied = [0.1, 0.12, 0.1, 0.12] * 2
    values = {
        (): [1.0] * 16,
        ALL: [0.0] * 16,
        (3,): [0.11, 0.11, 0.11, 0.11] * 2,
        (5,): tied,
        (7,): tied,
        (9,): [0.1, 0.14],
    }
    board = Scoreboard(values, 16, "lower", 0.9, False, max_width=1)

    wanted = windows_needing_runs(board, board.estimate((3,)), 4, 16, has_budget=True)

    assert (9,) in wanted
    assert (5,) not in wanted


def test_complete_ties_do_not_block_other_rivals():
    """Rivals with all of their runs give way to a rival that has runs left."""
    tied = [0.1, 0.12, 0.1, 0.12]
    values = {
        (): [1.0] * 4,
        ALL: [0.0] * 4,
        (3,): [0.11] * 4,
        (5,): tied,
        (7,): tied,
        (9,): [0.1, 0.14],
    }
    board = Scoreboard(values, 16, "lower", 0.9, False, max_width=1)

    wanted = windows_needing_runs(board, board.estimate((3,)), 4, 4, has_budget=True)

    assert wanted[(9,)] == 4


def test_runs_arrive_in_any_order():
    """Scores are stored in the shared order, and a repeated run replaces the old score."""
    values = {(): [1.0, 0.8, 0.9], ALL: [0.1, 0.2, 0.3], (3,): [0.5, 0.7]}
    board = Scoreboard({}, 16, "lower", 0.9, True)

    for place, score in ((2, 0.3), (0, 0.4), (1, 0.2), (0, 0.1)):
        board.record(ALL, place, score)
    for place in (1, 2, 0):
        board.record((), place, values[()][place])
    board.record((3,), 4, 0.7)
    board.record((3,), 1, 0.5)

    assert board.values == values
    assert board.best() == Scoreboard(values, 16, "lower", 0.9, True).best()
    assert board.first(1).values == {(): [1.0], ALL: [0.1], (3,): [0.5]}
