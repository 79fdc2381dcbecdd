"""The candidates, trials and choice of LocoGen, on made-up numbers."""

import pytest

from loco_cli.concept import PromptPair
from loco_cli.interventions import Run, SwapPrompt
from loco_cli.layers import LayerSet, sliding_windows
from loco_cli.localization import WindowScore
from loco_cli.localizing.locogen import _choose_window, _score_windows
from loco_cli.localizing.runs import _plan_trials, candidates_of

PAIR = PromptPair("a house by monet", "a house", "monet")
OTHER = PromptPair("a cat by monet", "a cat", "monet")


def window_score(layers, score, effect):
    ends = (layers[0], layers[-1] + 1)
    return WindowScore(layer_range=ends, score=score, std=0.0, stderr=0.0, effect=effect, n=1)


def test_candidates_are_original_full_swap_and_windows():
    """The original and the full swap come first, then the windows in order, without duplicates."""
    candidates = candidates_of(sliding_windows(4, 3), 4)

    assert list(candidates) == [(), (0, 1, 2, 3), (0, 1, 2), (1, 2, 3)]
    assert list(candidates_of(sliding_windows(3, 3), 3)) == [(), (0, 1, 2)]


def test_every_candidate_runs_with_every_prompt_and_seed():
    """There is one trial per pair, seed and candidate, grouped by pair and seed."""
    candidates = (LayerSet(), LayerSet((1, 2)))

    trials = _plan_trials(candidates, (PAIR, OTHER), seeds=(0, 1), kind="style")

    assert len(trials) == 8
    assert trials[0].run == Run("a house by monet", 0, SwapPrompt((), "a house"))
    assert trials[1].run == Run("a house by monet", 0, SwapPrompt((1, 2), "a house"))
    assert trials[-1].run == Run("a cat by monet", 1, SwapPrompt((1, 2), "a cat"))


def test_a_fact_is_scored_against_its_target():
    """Styles and objects are scored against the source prompt, facts against the target."""
    captions = {"style": PAIR.source, "object": PAIR.source, "fact": PAIR.target}

    for kind, caption in captions.items():
        (trial,) = _plan_trials((LayerSet((0,)),), (PAIR,), seeds=(0,), kind=kind)
        assert trial.caption == caption


def test_scores_are_means_and_effects_are_shares():
    """A score is the mean over prompts and seeds, an effect its share of the full swap."""
    windows = sliding_windows(3, 2)
    values = {(): [0.9, 0.7], (0, 1, 2): [0.1, 0.3], (0, 1): [0.6, 0.6], (1, 2): [0.2, 0.4]}

    original, target, scores = _score_windows(values, windows, 3)

    assert (original, target) == (pytest.approx(0.8), pytest.approx(0.2))
    assert [one.layer_range for one in scores] == [(0, 2), (1, 3)]
    assert [one.score for one in scores] == pytest.approx([0.6, 0.3])
    assert [one.effect for one in scores] == pytest.approx([1 / 3, 5 / 6])
    assert [one.n for one in scores] == [2, 2]
    assert scores[1].stderr == pytest.approx(0.1)


def test_the_best_score_is_lowest_or_highest():
    """Styles and objects minimize the score, facts maximize it; ties go to the first."""
    scores = [window_score((i, i + 1), s, None) for i, s in enumerate((0.3, 0.1, 0.1, 0.4))]

    assert _choose_window(scores, "lower", required=None).layer_range == (1, 3)
    assert _choose_window(scores, "higher", required=None).layer_range == (3, 5)


def test_the_narrowest_window_that_passes_is_chosen():
    """Width precedes score, unless no window has the required effect."""
    scores = [
        window_score((3,), 0.5, 0.4),
        window_score((3, 4), 0.2, 0.92),
        window_score((5, 6), 0.15, 0.95),
        window_score((3, 4, 5), 0.1, 1.0),
    ]

    assert _choose_window(scores, "lower", required=0.9).layer_range == (5, 7)
    assert _choose_window(scores, "lower", required=0.3).layer_range == (3, 4)
    assert _choose_window(scores, "lower", required=1.1).layer_range == (3, 6)
