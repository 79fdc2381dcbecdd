"""The search over ridges, on made-up figures."""

import pytest

from loco_cli.evaluating.ladder import MAX_WIDENINGS, N_COMPLETED_RUNGS, _max_images, climb
from loco_cli.manifest import Strength, StrengthTrial

LADDER, START = ("1.0x", "0.3x", "0.1x", "0.03x"), 2
TARGET = 0.9
ONE = ((8, 9),)


def wider(layers_of, short):
    return tuple(
        (layers[0] - 1, *layers, layers[-1] + 1) if i in short else layers
        for i, layers in enumerate(layers_of)
    )


def unchanged(layers_of, short):
    return layers_of


class Trials:
    """
    Made-up trials with shares `(forgotten, became, kept)`, which record every attempt.

    `shares` is keyed by ridge, or by the number of layers of the first edit and the ridge.
    """

    def __init__(self, shares, n_edits=1):
        self.shares, self.n_edits, self.attempts = shares, n_edits, []

    def __call__(self, layers_of, ridge, is_complete):
        self.attempts.append((layers_of, ridge, is_complete))
        found = self.shares.get((len(layers_of[0]), ridge), self.shares.get(ridge, (0.0, 0.0, 1.0)))
        forgotten, became, kept = found
        is_short = min(forgotten, became) < TARGET
        return StrengthTrial(
            layers=layers_of,
            ridge=ridge,
            forgotten=forgotten,
            became=became,
            kept=None if is_short and not is_complete else kept,
            n=4,
            short=tuple(range(self.n_edits))[:1] if is_short else (),
        )


def chosen(shares, widen=unchanged, layers_of=ONE):
    trials = Trials(shares, len(layers_of))
    tried, i = climb(LADDER, START, layers_of, trials, widen, TARGET)
    return trials, tried, i


GOOD = (1.0, 1.0, 1.0)
WEAK = (0.8, 1.0, 1.0)
HARMS = (1.0, 0.95, 0.8)


@pytest.mark.parametrize(
    ("shares", "ridges"),
    [
        ({"1.0x": GOOD, "0.3x": GOOD, "0.1x": GOOD}, ["0.1x"]),
        ({"0.1x": (0.9, 0.9, 0.9)}, ["0.1x"]),
        ({"0.1x": (1.0, 1.0, None)}, ["0.1x"]),
        ({"0.3x": GOOD, "0.1x": WEAK, "0.03x": GOOD}, ["0.1x", "0.03x"]),
        ({"0.1x": HARMS, "0.3x": HARMS, "1.0x": GOOD}, ["0.1x", "0.3x", "1.0x"]),
        ({"0.1x": HARMS, "0.3x": WEAK, "0.03x": GOOD}, ["0.1x", "0.3x", "1.0x", "0.03x"]),
    ],
    ids=["enough", "just enough", "nothing to keep", "too weak", "too strong", "too strong alone"],
)
def test_the_first_rung_that_reaches_the_target_is_chosen(shares, ridges):
    """Stronger ridges follow if too little is forgotten, gentler ones if too little is kept."""
    trials, tried, i = chosen(shares, wider)

    assert [one.ridge for one in tried] == ridges
    assert trials.attempts == [(ONE, ridge, False) for ridge in ridges]
    assert i == len(tried) - 1


def test_layers_are_widened_if_no_ridge_forgets_enough():
    """The search starts again with wider layers, only for the edits that fall short."""
    two = ((8, 9), (4, 5))

    _, tried, i = chosen({(4, "0.03x"): GOOD}, wider, two)

    assert [one.ridge for one in tried] == ["0.1x", "0.03x", "0.1x", "0.03x"]
    assert tried[i].layers == ((7, 8, 9, 10), (4, 5))


def test_layers_are_not_widened_to_keep_more():
    """If enough is forgotten but too little kept, the best ridge of these layers is chosen."""
    kept = {"1.0x": 0.5, "0.3x": 0.8, "0.1x": 0.7, "0.03x": 0.1}
    shares = {ridge: (1.0, 1.0, share) for ridge, share in kept.items()}

    trials, tried, i = chosen(shares, wider)

    assert [one.ridge for one in tried] == ["0.1x", "0.3x", "1.0x", "0.03x"]
    assert tried[i].ridge == "0.3x"
    assert len(trials.attempts) == len(tried)


def test_the_best_rung_is_the_fallback():
    """The best harmonic mean of the completed rungs wins; ties go to the first."""
    shares = {
        (2, "0.1x"): (0.5, 0.5, 1.0),
        (2, "0.03x"): (0.8, 0.8, 1.0),
        (4, "0.1x"): (0.8, 0.8, 1.0),
        (4, "0.03x"): (0.85, 0.85, 0.2),
    }

    trials, tried, i = chosen(shares, wider)

    assert len(tried) == (1 + MAX_WIDENINGS) * 2
    assert (len(tried[i].layers[0]), tried[i].ridge, tried[i].kept) == (2, "0.03x", 1.0)
    assert sum(is_complete for *_, is_complete in trials.attempts) == N_COMPLETED_RUNGS
    assert not tried[i].reaches(TARGET)


def test_the_default_ridge_stays_if_no_rung_has_an_effect():
    """Without any effect the first rung is chosen, not a stronger one."""
    _, tried, i = chosen({})

    assert (i, tried[i].ridge) == (0, "0.1x")


@pytest.mark.parametrize("widen", [wider, unchanged])
def test_the_cost_is_an_upper_limit(widen):
    """A search that tries and completes everything stays within its limit."""
    n_forget, n_keep = 8, 8
    trials, _, _ = chosen({}, widen)

    n = (n_forget + n_keep) + sum(
        n_forget + (n_keep if is_complete else 0) for *_, is_complete in trials.attempts
    )

    assert n <= _max_images(n_forget, n_keep, len(LADDER), is_widened=widen is wider)


def test_a_strength_is_a_document():
    """Its rungs are in the order of the trials, with the index of the chosen one."""
    _, tried, i = chosen({"0.03x": GOOD})
    known = {"target": TARGET, "seeds": (100,), "steps": 10, "prompts": ("a",)}
    found = Strength(**known, tried=tried, chosen=i)

    document = found.to_json()

    assert list(document) == [*known, "tried", "chosen"]
    assert document["tried"][i]["layers"] == [[8, 9]]
    assert Strength.model_validate(document) == found
    assert found.chosen_trial == tried[1]
    assert Strength(**known).chosen_trial is None
