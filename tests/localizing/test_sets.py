"""The search for a small set of layers, on made-up effects."""

import random

import pytest

from loco_cli.localizing import sets
from loco_cli.localizing.sets import MAX_SCREENED_SETS


def needs(*layers):
    """Return an effect that is 0 until all of these layers are swapped."""
    return lambda some: float(set(layers) <= set(some))


def adds(weights):
    """Return an effect that is the sum of the weights of the swapped layers."""
    return lambda some: sum(weights.get(layer, 0.0) for layer in some)


def either(*islands):
    """Return an effect that any of these sets has alone, and a part of it in proportion."""
    return lambda some: max(len(set(some) & set(one)) / len(one) for one in islands)


def searched(effect, ranking, *, required=0.9, checked=None):
    """Return the set found, the sets that were screened, and the sets that were confirmed."""
    screened, full = [], []

    def screen(some):
        screened.extend(some)
        return [effect(one) for one in some]

    def check(some):
        full.extend(some)
        return [(checked or effect)(one) for one in some]

    return sets._find_smallest(ranking, required, screen=screen, check=check), screened, full


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
def test_a_set_is_found_with_any_ranking(effect, found):
    """Elimination finds a redundant set even if no layer has an effect alone."""
    for ranking in (range(16), range(16)[::-1], [0.0] * 16):
        assert searched(effect, ranking)[0] == found


def test_one_of_two_redundant_sets_is_found():
    """Of two sets that replace each other, one is chosen."""
    found, *_ = searched(either((1, 2, 3), (10, 11, 12)), [0.0] * 16)

    assert found in ((1, 2, 3), (10, 11, 12))


def test_seventy_layers_take_a_few_dozen_sets():
    """Groups are dropped first, so SDXL costs no more than SD."""
    for needed in ((5, 6, 44, 45, 46, 47), (0, 69), (33,)):
        ranking = [1.0 * (layer in needed) + 0.01 * (layer % 7) for layer in range(70)]
        found, screened, _ = searched(needs(*needed), ranking)

        assert found == needed
        assert len(screened) <= MAX_SCREENED_SETS


def test_a_set_is_a_local_minimum():
    """For random effects no set repeats, the limits hold, and no layer can be dropped."""
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


def test_a_set_that_fails_all_runs_gets_a_layer_back():
    """If the screening was too lenient, the layer that adds most is restored."""
    few, many = adds({1: 0.6, 5: 0.31, 9: 0.08}), adds({1: 0.6, 5: 0.25, 9: 0.1})

    found, _, full = searched(few, [0.0] * 16, checked=many)

    assert found == (1, 5, 9)
    assert (1, 5) in full


def test_a_near_miss_is_confirmed_too():
    """If the screening was too strict, a smaller set passes all runs."""
    few, many = adds({1: 0.6, 5: 0.27, 9: 0.13}), adds({1: 0.6, 5: 0.32, 9: 0.08})

    assert searched(few, [0.0] * 16, checked=many)[0] == (1, 5)


def test_the_full_swap_is_the_fallback():
    """If no smaller set passes all runs, all layers are the answer."""
    found, *_ = searched(adds({1: 1.0}), [0.0] * 16, checked=lambda some: 0.0)

    assert found == tuple(range(16))


def test_a_good_ranking_saves_sets():
    """A good ranking leaves fewer layers to eliminate one by one."""
    good = [1.0 * (layer in (8, 9)) for layer in range(16)]

    _, guided, _ = searched(needs(8, 9), good)
    _, misled, _ = searched(needs(8, 9), [-share for share in good])

    assert len(guided) < len(misled) / 2
