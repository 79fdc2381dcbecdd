"""The search for the smallest set, on effects that are made up."""

import random

import pytest

from loco_cli.localizing import sets
from loco_cli.localizing.sets import MAX_SCREENED_SETS


def needs(*layers):
    """Nothing happens before all of these are swapped."""
    return lambda some: float(set(layers) <= set(some))


def adds(weights):
    """Each layer adds what it weighs."""
    return lambda some: sum(weights.get(layer, 0.0) for layer in some)


def either(*islands):
    """Any of these is enough, and a part of it does its part."""
    return lambda some: max(len(set(some) & set(one)) / len(one) for one in islands)


def searched(effect, ranking, *, required=0.9, checked=None):
    """Return the set that is found, and how often which sets were tried in part and in full."""
    screened, full = [], []

    def screen(some):
        screened.extend(some)
        return [effect(one) for one in some]

    def check(some):
        full.extend(some)
        return [(checked or effect)(one) for one in some]

    return sets._find_smallest(ranking, required, screen=screen, check=check), screened, full


RISING = list(range(16))


@pytest.mark.parametrize("ranking", [RISING, RISING[::-1], [0.0] * 16])
@pytest.mark.parametrize(
    ("effect", "found"),
    [
        (needs(2, 3, 9, 10), (2, 3, 9, 10)),
        (needs(7), (7,)),
        (needs(*range(16)), tuple(range(16))),
        (adds({1: 0.3, 2: 0.2, 3: 0.15, 11: 0.25, 12: 0.05, 13: 0.05}), (1, 2, 3, 11)),
        (adds({4: 0.5, 5: 0.45}), (4, 5)),
    ],
)
def test_it_is_found_whatever_the_ranking_says(effect, found, ranking):
    """
    What the rest cannot replace is found from above, though alone it may do nothing.
    """
    assert searched(effect, ranking)[0] == found


def test_of_two_that_are_enough_one_is_found():
    """
    Layers that stand in for one another are not all taken.
    """
    found, *_ = searched(either((1, 2, 3), (10, 11, 12)), [0.0] * 16)

    assert found in ((1, 2, 3), (10, 11, 12))


@pytest.mark.parametrize("needed", [(5, 6, 44, 45, 46, 47), (0, 69), (33,)])
def test_seventy_layers_take_a_few_dozen_sets(needed):
    """
    Many layers are left out in groups first: those of SDXL cost no more than those of SD.
    """
    ranking = [1.0 * (layer in needed) + 0.01 * (layer % 7) for layer in range(70)]
    found, screened, _ = searched(needs(*needed), ranking)

    assert found == needed
    assert len(screened) <= MAX_SCREENED_SETS


def test_a_set_can_spare_no_layer():
    """
    Whatever the effects, nothing is tried twice, the price is kept, and what is found is enough.
    """
    for seed in range(40):
        rng = random.Random(seed)
        weights = [rng.random() ** 3 for _ in range(16)]
        pairs = {(rng.randrange(16), rng.randrange(16)): rng.random() for _ in range(6)}
        most = sum(weights) + sum(pairs.values())

        def effect(some, weights=weights, pairs=pairs, most=most):
            together = sum(v for pair, v in pairs.items() if set(pair) <= set(some))
            return (sum(weights[layer] for layer in some) + together) / most

        found, screened, full = searched(effect, [rng.random() for _ in range(16)])

        assert len(screened) == len(set(screened)) <= MAX_SCREENED_SETS
        assert len(full) <= sets.MAX_CONFIRMED_SETS
        assert effect(found) >= 0.9
        fewer = [tuple(x for x in found if x != layer) for layer in found]
        assert len(screened) > MAX_SCREENED_SETS - 16 or max(map(effect, fewer)) < 0.9


def test_what_is_not_enough_on_all_runs_gets_a_layer_back():
    """
    The few runs were too kind; the layer that adds most comes back.
    """
    few, many = adds({1: 0.6, 5: 0.31, 9: 0.08}), adds({1: 0.6, 5: 0.25, 9: 0.1})

    found, _, full = searched(few, [0.0] * 16, checked=many)

    assert found == (1, 5, 9)
    assert (1, 5) in full


def test_what_was_nearly_enough_is_tried_on_all_runs():
    """
    The few runs were too strict with a smaller set.
    """
    few, many = adds({1: 0.6, 5: 0.27, 9: 0.13}), adds({1: 0.6, 5: 0.32, 9: 0.08})

    assert searched(few, [0.0] * 16, checked=many)[0] == (1, 5)


def test_all_layers_are_enough_by_definition():
    """
    Where no smaller set holds on all runs, the full swap is the answer.
    """
    found, *_ = searched(adds({1: 1.0}), [0.0] * 16, checked=lambda some: 0.0)

    assert found == tuple(range(16))


def test_what_the_ranking_favours_saves_the_rest():
    """
    A good ranking leaves fewer layers to be left out in turn.
    """
    good = [1.0 * (layer in (8, 9)) for layer in range(16)]

    _, told, _ = searched(needs(8, 9), good)
    _, untold, _ = searched(needs(8, 9), [-share for share in good])

    assert len(told) < len(untold) / 2
