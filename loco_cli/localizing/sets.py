"""
The search for a small set of layers, for concepts that no contiguous range holds.

If many layers hold a concept, they are redundant: each has almost no effect alone, and most can be
left out of the full swap. The search is therefore a backward elimination. A set passes if its
effect reaches the required one.

    1.  Try the top quarter, half and three quarters of the layers in a cheap ranking.
    2.  From the smallest set that passes, leave out each layer in turn, or groups of neighbours if
        there are many layers. Drop those with the least loss, as many as possible.
    3.  Repeat until no single layer can be dropped.
    4.  Confirm the set on every prompt and seed, together with smaller sets that nearly passed. If
        it fails, restore the layer that adds most.

The result is a local minimum: no single layer can be dropped, but a smaller set may exist. Forward
selection would fail where no layer has an effect alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from loco_cli.layers import LayerSet
from loco_cli.localization import LocalizationRun
from loco_cli.localizing.scoreboard import Scoreboard
from loco_cli.localizing.search import FastSearch

Measure = Callable[[Sequence[LayerSet]], Sequence[float]]  # sets -> effects, in one batch

MAX_SCREENED_SETS = 48  # sets that run on a few runs only
_MAX_GROUPS = 16  # groups of layers in one round of elimination
_N_PARALLEL_PROBES = 3  # sets per batch of the section search
_NEAR_MISS_EFFECT = 0.05  # shortfall up to which a smaller set is confirmed too
_MAX_NEAR_MISSES = 2  # smaller sets to confirm
_MAX_RESTORED_LAYERS = 2  # layers to restore before the search falls back to larger sets
_MAX_LARGER_SETS = 3  # larger sets to confirm in the fallback
MAX_CONFIRMED_SETS = _MAX_NEAR_MISSES + 1 + _MAX_RESTORED_LAYERS + _MAX_LARGER_SETS


def find_set(
    search: FastSearch, ranking: Sequence[float], seconds_before: float = 0.0
) -> LocalizationRun:
    """
    Search for the smallest set of layers that has the required effect.

    Args:
        search: The search of the concept; existing scores are reused.
        ranking: A value for each layer, larger for more likely layers.
        seconds_before: The time that an earlier search spent on the same runs.

    Returns:
        The localization. Its layers are all layers if the full swap is not significant.
    """
    runs, board, n_all = search.runs, search.board, len(search.order)
    search.score_up_to({search.all_layers: n_all})
    chosen = search.all_layers
    if board.is_scale_significant:
        n_screening = _n_screening_runs(board, len(runs.pairs), n_all)
        chosen = _find_smallest(
            ranking,
            runs.settings.effect,
            screen=lambda sets: _effects(search, sets, n_screening),
            check=lambda sets: _effects(search, sets, n_all),
        )
    return search.result(chosen, ranking, "set", seconds_before)


def _effects(search: FastSearch, sets: Sequence[LayerSet], n: int) -> list[float]:
    """Return each set's effect over its first `n` runs, relative to swapping all layers (1.0)."""
    search.score_up_to(dict.fromkeys(sets, n))
    values = search.board.values
    original, full = fmean(values[LayerSet()][:n]), fmean(values[search.all_layers][:n])
    return [(original - fmean(values[layers][:n])) / (original - full) for layers in sets]


def _n_screening_runs(board: Scoreboard, n_prompts: int, n_all: int) -> int:
    """Return one run per prompt, or two if one does not make the scale significant."""
    first = board.first(n_prompts)
    is_sufficient = first.is_scale_significant and (first.n_pictures > 1 or board.n_pictures == 1)
    return min(n_prompts if is_sufficient else 2 * n_prompts, n_all)


@dataclass
class _Screening:
    """The effects of at most `MAX_SCREENED_SETS` sets on a few runs, each measured once."""

    measure: Measure
    effects: dict[LayerSet, float] = field(default_factory=dict)

    @property
    def n_left(self) -> int:
        """The number of sets that may still be measured."""
        return MAX_SCREENED_SETS - len(self.effects)

    def __call__(self, sets: Sequence[LayerSet]) -> list[float]:
        """Return the effect of each set."""
        fresh = [one for one in dict.fromkeys(sets) if one not in self.effects]
        if fresh:
            self.effects.update(zip(fresh, self.measure(fresh), strict=True))
        return [self.effects[one] for one in sets]


def max_images(n_prompts: int, n_pairs: int) -> int:
    """Return the upper limit of pictures, including the original and the full swap."""
    return MAX_SCREENED_SETS * min(2 * n_prompts, n_pairs) + (2 + MAX_CONFIRMED_SETS) * n_pairs


def _find_smallest(
    ranking: Sequence[float],  # one per layer, larger for more likely layers
    required: float,
    *,
    screen: Measure,  # measures effects on a few runs
    check: Measure,  # measures effects on all runs
) -> LayerSet:
    """Return the smallest set found whose effect over all runs is at least `required`."""
    screening = _Screening(screen)
    path = _shrink(ranking, required, screening)
    return _confirm(path, screening, required, check)


def _shrink(
    ranking: Sequence[float], required: float, screening: _Screening
) -> tuple[LayerSet, ...]:
    """Return ever smaller sets that pass the screening, starting with all layers."""
    path = [LayerSet(range(len(ranking)))]
    path += _shrink_by_ranking(ranking, required, screening)
    size = -(-len(path[-1]) // _MAX_GROUPS)
    while True:
        smaller = _drop_groups(path[-1], size, required, screening)
        if smaller:
            path.append(smaller)
            size = min(size, -(-len(smaller) // _MAX_GROUPS))
        elif size > 1:
            size = -(-size // 2)
        else:
            return tuple(path)


def _shrink_by_ranking(
    ranking: Sequence[float], required: float, screening: _Screening
) -> list[LayerSet]:
    """Return the sets of top-ranked layers that pass the screening, ever smaller."""
    order = sorted(range(len(ranking)), key=lambda layer: -ranking[layer])
    found: list[LayerSet] = []
    while len(order) > 3:
        parts = [LayerSet(order[: -(-len(order) * i // 4)]) for i in (1, 2, 3)]
        passing = [part for part, e in zip(parts, screening(parts), strict=True) if e >= required]
        if not passing:
            break
        found.append(passing[0])
        order = order[: len(passing[0])]
        if passing[0] != parts[0] or len(order) <= _MAX_GROUPS:
            break
    return found


def _drop_groups(
    layers: LayerSet, size: int, required: float, screening: _Screening
) -> LayerSet | None:
    """Drop as many groups of `layers` as possible; return None if none can go."""
    groups = [LayerSet(layers[i : i + size]) for i in range(0, len(layers), size)]
    if len(groups) < 2 or len(groups) > screening.n_left:
        return None
    effects = screening([_without(layers, [group]) for group in groups])
    by_loss = sorted(range(len(groups)), key=lambda i: -effects[i])
    if effects[by_loss[0]] < required:
        return None
    order = [groups[i] for i in by_loss]
    n_dropped = _max_droppable(
        len(groups) - 1, lambda n: _without(layers, order[:n]), required, screening
    )
    return _without(layers, order[:n_dropped])


def _max_droppable(
    high: int, made: Callable[[int], LayerSet], required: float, screening: _Screening
) -> int:
    """Return the largest `n` found, up to `high`, whose set passes; the set for 1 passes."""
    low = 1
    while low < high and screening.n_left >= _N_PARALLEL_PROBES:
        probes = sorted(
            {
                low - (low - high) * i // (_N_PARALLEL_PROBES + 1)
                for i in range(1, _N_PARALLEL_PROBES + 1)
            }
        )
        effects = screening([made(n) for n in probes])
        passing = [n for n, effect in zip(probes, effects, strict=True) if effect >= required]
        low = max(passing, default=low)
        high = min((n for n in probes if n > low), default=high + 1) - 1
    return low


def _confirm(
    path: Sequence[LayerSet], screening: _Screening, required: float, check: Measure
) -> LayerSet:
    """Return the first set that passes all runs; smaller sets come first, larger ones last."""
    found, *larger = reversed(path)

    def first_passing(sets: Sequence[LayerSet]) -> LayerSet | None:
        effects = dict(zip(sets, check(sets), strict=True)) if sets else {}
        return next((one for one in sets if effects[one] >= required), None)

    confirmed = first_passing([*_near_misses(found, screening, required), found])
    for _ in range(_MAX_RESTORED_LAYERS):
        # layers that were dropped last are the most likely ones to be needed
        dropped = [x for x in dict.fromkeys(x for one in larger for x in one) if x not in found]
        more = [LayerSet((*found, x)) for x in dropped[: min(_MAX_GROUPS, screening.n_left)]]
        if confirmed or not more:
            break
        found = max(zip(screening(more), more, strict=True))[1]
        confirmed = first_passing([found])
    for one in larger[:_MAX_LARGER_SETS]:
        confirmed = confirmed or first_passing([one])
    return confirmed or path[0]


def _near_misses(found: LayerSet, screening: _Screening, required: float) -> list[LayerSet]:
    """Return the best sets that are one layer smaller and just below the required effect."""
    near = [
        (effect, one)
        for one, effect in screening.effects.items()
        if len(one) == len(found) - 1 and required - _NEAR_MISS_EFFECT <= effect < required
    ]
    return [one for _, one in sorted(near, reverse=True)[:_MAX_NEAR_MISSES]]


def _without(layers: LayerSet, groups: Sequence[LayerSet]) -> LayerSet:
    removed = {layer for group in groups for layer in group}
    return LayerSet(layer for layer in layers if layer not in removed)
