"""LocoGen's plan and choice, on numbers small enough to do by hand."""

import pytest

from loco_cli.concept import PromptPair
from loco_cli.interventions import Run, SwapPrompt
from loco_cli.layers import LayerSet, sliding_windows
from loco_cli.localization import WindowScore
from loco_cli.localizing.locogen import _choose_window, _score_windows
from loco_cli.localizing.runs import AUTO_WIDTHS, _plan_trials, candidates_of, widths_of

PAIR = PromptPair("a house by monet", "a house", "monet")
OTHER = PromptPair("a cat by monet", "a cat", "monet")


def window_score(layers, score, effect):
    return WindowScore(
        layer_range=(layers[0], layers[-1] + 1),
        score=score,
        std=0.0,
        stderr=0.0,
        effect=effect,
        n=1,
    )


def test_candidates_are_nothing_everything_and_each_window():
    """
    The scale comes first, then the windows in order.
    """
    candidates = candidates_of(sliding_windows(4, 3), 4)

    assert list(candidates) == [(), (0, 1, 2, 3), (0, 1, 2), (1, 2, 3)]


def test_a_window_of_all_layers_is_tried_once():
    """
    The widest window is the full swap, and no run is made twice.
    """
    assert list(candidates_of(sliding_windows(3, 3), 3)) == [(), (0, 1, 2)]


def test_every_candidate_runs_with_every_prompt_and_seed():
    """
    There is a trial per pair, seed and candidate, those of a pair and seed together.
    """
    candidates = (LayerSet(), LayerSet((1, 2)))

    trials = _plan_trials(candidates, (PAIR, OTHER), seeds=(0, 1), kind="style")

    assert len(trials) == 8
    assert trials[0].run == Run("a house by monet", 0, SwapPrompt((), "a house"))
    assert trials[1].run == Run("a house by monet", 0, SwapPrompt((1, 2), "a house"))
    assert trials[-1].run == Run("a cat by monet", 1, SwapPrompt((1, 2), "a cat"))


@pytest.mark.parametrize(
    ("kind", "caption"), [("style", PAIR.source), ("object", PAIR.source), ("fact", PAIR.target)]
)
def test_a_fact_is_scored_against_its_target(kind, caption):
    """
    Style and object are held against the source prompt, a fact against the target prompt.
    """
    (trial,) = _plan_trials((LayerSet((0,)),), (PAIR,), seeds=(0,), kind=kind)

    assert trial.caption == caption


def test_rank_is_means_and_shares():
    """
    A window's score is the mean over prompts and seeds, its effect the share of the full swap.
    """
    windows = sliding_windows(3, 2)
    values = {(): [0.9, 0.7], (0, 1, 2): [0.1, 0.3], (0, 1): [0.6, 0.6], (1, 2): [0.2, 0.4]}

    original, target, scores = _score_windows(values, windows, 3)

    assert (original, target) == (pytest.approx(0.8), pytest.approx(0.2))
    assert [one.layer_range for one in scores] == [(0, 2), (1, 3)]
    assert [one.score for one in scores] == pytest.approx([0.6, 0.3])
    assert [one.effect for one in scores] == pytest.approx([1 / 3, 5 / 6])
    assert [one.n for one in scores] == [2, 2]
    assert scores[1].stderr == pytest.approx(0.1)


def test_the_full_swap_can_be_a_window():
    """
    With one window of all layers its effect is 1.
    """
    _, _, (score,) = _score_windows({(): [0.1], (0, 1): [0.9]}, sliding_windows(2, 2), 2)

    assert score.layer_range == (0, 2)
    assert score.effect == pytest.approx(1.0)


def test_the_best_is_lowest_or_highest():
    """
    Style and object take the lowest score, a fact the highest, the first of equals.
    """
    scores = [window_score((i, i + 1), s, None) for i, s in enumerate((0.3, 0.1, 0.1, 0.4))]

    assert _choose_window(scores, "lower", required=None).layer_range == (1, 3)
    assert _choose_window(scores, "higher", required=None).layer_range == (3, 5)


def test_the_narrowest_that_is_enough_is_chosen():
    """
    With a wanted effect width goes before score; where nothing reaches it the best of all is.
    """
    scores = [
        window_score((3,), 0.5, 0.4),
        window_score((3, 4), 0.2, 0.92),
        window_score((5, 6), 0.15, 0.95),
        window_score((3, 4, 5), 0.1, 1.0),
    ]

    assert _choose_window(scores, "lower", required=0.9).layer_range == (5, 7)
    assert _choose_window(scores, "lower", required=0.3).layer_range == (3, 4)
    assert _choose_window(scores, "lower", required=1.1).layer_range == (3, 6)


def test_auto_tries_narrow_windows_first():
    """
    A width is itself; `auto` is a few, in order.
    """
    assert widths_of(5) == (5,)
    assert widths_of("auto") == AUTO_WIDTHS == tuple(sorted(AUTO_WIDTHS))
    assert LayerSet.window(0, 1) in sliding_windows(16, widths_of("auto")[0])
