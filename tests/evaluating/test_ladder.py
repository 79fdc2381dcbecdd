"""How strong an edit is chosen to be, on scores that are made up."""

import pytest

from loco_cli.evaluating.ladder import MAX_WIDENINGS, N_COMPLETED_RUNGS, _max_images, climb
from loco_cli.manifest import Strength, StrengthTrial

LADDER, BEGIN = ("1.0x", "0.3x", "0.1x", "0.03x"), 2
TARGET = 0.9
ONE = ((8, 9),)


def wider(layers_of, short):
    return tuple(
        (layers[0] - 1, *layers, layers[-1] + 1) if i in short else layers
        for i, layers in enumerate(layers_of)
    )


def same(layers_of, short):
    return layers_of


class World:
    """
    Shares of every rung, `(forgotten, became, kept)`; none was asked for twice without a reason.

    `shares` are by ridge, or by how many layers the first edit has and ridge.
    """

    def __init__(self, shares, n_edits=1):
        self.shares, self.n_edits, self.asked = shares, n_edits, []

    def __call__(self, layers_of, ridge, is_complete):
        self.asked.append((layers_of, ridge, is_complete))
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


def chosen(shares, widen=same, layers_of=ONE):
    world = World(shares, len(layers_of))
    tried, i = climb(LADDER, BEGIN, layers_of, world, widen, TARGET)
    return world, tried, i


GOOD = (1.0, 1.0, 1.0)
WEAK = (0.8, 1.0, 1.0)
HARMS = (1.0, 0.95, 0.8)


@pytest.mark.parametrize(
    ("shares", "asked"),
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
def test_the_first_that_reaches_the_target_is_taken(shares, asked):
    """
    The constant is tried first; then stronger ones where it forgets too little, and gentler ones
    where it keeps too little.
    """
    world, tried, i = chosen(shares, wider)

    assert [one.ridge for one in tried] == asked
    assert world.asked == [(ONE, ridge, False) for ridge in asked]
    assert i == len(tried) - 1


def test_layers_are_widened_where_no_ridge_forgets_enough():
    """
    The climb begins again in wider layers, for the edits that fall short alone.
    """
    two = ((8, 9), (4, 5))

    _, tried, i = chosen({(4, "0.03x"): GOOD}, wider, two)

    assert [one.ridge for one in tried] == ["0.1x", "0.03x", "0.1x", "0.03x"]
    assert tried[i].layers == ((7, 8, 9, 10), (4, 5))


def test_more_layers_are_no_way_to_keep_more():
    """
    Where enough is forgotten and too little kept, layers stay, and the best of the ridges is taken.
    """
    kept = {"1.0x": 0.5, "0.3x": 0.8, "0.1x": 0.7, "0.03x": 0.1}
    shares = {ridge: (1.0, 1.0, share) for ridge, share in kept.items()}

    world, tried, i = chosen(shares, wider)

    assert [one.ridge for one in tried] == ["0.1x", "0.3x", "1.0x", "0.03x"]
    assert tried[i].ridge == "0.3x"
    assert len(world.asked) == len(tried)


def test_the_best_is_taken_where_nothing_is_enough():
    """
    The most promising are finished, and the best harmonic mean of all three figures wins, the
    first of equals.
    """
    shares = {
        (2, "0.1x"): (0.5, 0.5, 1.0),
        (2, "0.03x"): (0.8, 0.8, 1.0),
        (4, "0.1x"): (0.8, 0.8, 1.0),
        (4, "0.03x"): (0.85, 0.85, 0.2),
    }

    world, tried, i = chosen(shares, wider)

    assert len(tried) == (1 + MAX_WIDENINGS) * 2
    assert (len(tried[i].layers[0]), tried[i].ridge, tried[i].kept) == (2, "0.03x", 1.0)
    assert sum(is_complete for *_, is_complete in world.asked) == N_COMPLETED_RUNGS
    assert not tried[i].reaches(TARGET)


def test_where_no_rung_does_anything_the_constant_stays():
    """
    Nothing is made stronger that is no better for it.
    """
    _, tried, i = chosen({})

    assert (i, tried[i].ridge) == (0, "0.1x")


@pytest.mark.parametrize("widen", [wider, same])
def test_no_climb_makes_more_pictures_than_it_says(widen):
    """
    The price that is told beforehand is not passed by one that tries and finishes all it may.
    """
    n_forget, n_keep = 8, 8
    world, _, _ = chosen({}, widen)

    n = (n_forget + n_keep) + sum(
        n_forget + (n_keep if is_complete else 0) for *_, is_complete in world.asked
    )

    assert n <= _max_images(n_forget, n_keep, len(LADDER), is_widened=widen is wider)


def test_a_strength_is_a_document():
    """
    Its rungs stand in the order of the trials, and one of them is taken, or none was tried.
    """
    _, tried, i = chosen({"0.03x": GOOD})
    known = {"target": TARGET, "seeds": (100,), "steps": 10, "prompts": ("a",)}
    found = Strength(**known, tried=tried, chosen=i)

    document = found.to_json()

    assert list(document) == [*known, "tried", "chosen"]
    assert document["tried"][i]["layers"] == [[8, 9]]
    assert Strength.model_validate(document) == found
    assert found.chosen_trial == tried[1]
    assert Strength(**known).chosen_trial is None
