"""
The smallest set of layers that is enough, for a concept that no range of layers holds.

Where a concept lies in many layers, each stands in for the others: alone most do next to nothing,
and of all together most are not missed. What the others cannot replace shows from above:

    1.  a quarter, half and three quarters of the layers, those that a cheap ranking favours;
    2.  the smallest of these that is enough without each of its layers in turn (of many layers:
        without a group of neighbours); those that are missed least go, as many as may;
    3.  the same again, until without any single layer it is not enough;
    4.  the set on every prompt and seed, with smaller ones that were nearly enough; where it is not
        enough after all, the layer that adds most comes back.

What is found can spare no single layer; that no other set is smaller only trying all would tell.
Greedy from below, as single effects suggest, is blind where no layer does anything alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from loco_cli.layers import LayerSet
from loco_cli.localization import LocalizationRun
from loco_cli.localizing.scoreboard import Scoreboard
from loco_cli.localizing.search import FastSearch

Measure = Callable[[Sequence[LayerSet]], Sequence[float]]  # sets tried together -> their effects

MAX_SETS = 48  # sets that are tried once per prompt
_MAX_GROUPS = 16  # groups of layers that are left out in turn
_N_PROBES = 3  # sets that are made together when a number is narrowed down
_NEAR_MISS = 0.05  # effect by which a smaller set may miss, to be tried in full
_MAX_NEAR = 2  # such sets that are tried in full
_MAX_RETURNED = 2  # layers that may come back one by one; then larger sets that were enough
MAX_CHECKED = _MAX_NEAR + 1 + _MAX_RETURNED + 3  # sets that are tried in full


def find_set(
    search: FastSearch, ranking: Sequence[float], seconds_before: float = 0.0
) -> LocalizationRun:
    """
    Return the smallest set that is enough; runs that were scored already are not scored again.

    `seconds_before` have been spent on the same runs by another search.
    """
    runs, board, n_all = search.runs, search.board, len(search.order)
    search.score_to({search.everything: n_all})
    chosen = search.everything
    if board.is_known:
        n_few = _n_runs_to_know(board, len(runs.pairs), n_all)
        chosen = _smallest(
            ranking,
            runs.settings.effect,
            screen=lambda sets: _effects(search, sets, n_few),
            check=lambda sets: _effects(search, sets, n_all),
        )
    return search.result(chosen, ranking, "set", seconds_before)


def _effects(search: FastSearch, sets: Sequence[LayerSet], n: int) -> list[float]:
    """Return each set's effect over its first `n` runs, relative to swapping all layers (1.0)."""
    search.score_to(dict.fromkeys(sets, n))
    values = search.board.values
    original, full = fmean(values[LayerSet()][:n]), fmean(values[search.everything][:n])
    return [(original - fmean(values[layers][:n])) / (original - full) for layers in sets]


def _n_runs_to_know(board: Scoreboard, n_prompts: int, n_all: int) -> int:
    """Return one run per prompt, or two where the full swap's change is not clear in one."""
    first = board.first(n_prompts)
    is_clear = first.is_known and (first.n_pictures > 1 or board.n_pictures == 1)
    return min(n_prompts if is_clear else 2 * n_prompts, n_all)


@dataclass
class _Tried:
    """Sets and their effects on a few runs, each measured once, `MAX_SETS` at most."""

    measure: Measure
    effects: dict[LayerSet, float] = field(default_factory=dict)

    @property
    def n_left(self) -> int:
        """How many sets may still be tried."""
        return MAX_SETS - len(self.effects)

    def __call__(self, sets: Sequence[LayerSet]) -> list[float]:
        """Return the effect of each set."""
        fresh = [one for one in dict.fromkeys(sets) if one not in self.effects]
        if fresh:
            self.effects.update(zip(fresh, self.measure(fresh), strict=True))
        return [self.effects[one] for one in sets]


def max_images(n_prompts: int, n_pairs: int) -> int:
    """Return how many pictures a search makes at most, the original and the full swap included."""
    return MAX_SETS * min(2 * n_prompts, n_pairs) + (2 + MAX_CHECKED) * n_pairs


def _smallest(
    ranking: Sequence[float],  # one per layer, the larger the likelier
    wanted: float,
    *,
    screen: Measure,  # on a few runs
    check: Measure,  # on all of them
) -> LayerSet:
    """Return a set whose effect on all runs is at least `wanted`, as small as was found."""
    tried = _Tried(screen)
    path = _descend(ranking, wanted, tried)
    return _confirmed(path, tried, wanted, check)


def _descend(ranking: Sequence[float], wanted: float, tried: _Tried) -> tuple[LayerSet, ...]:
    """Return ever smaller sets that are enough on a few runs, all layers first."""
    path = [LayerSet(range(len(ranking)))]
    path += _leading(ranking, wanted, tried)
    size = -(-len(path[-1]) // _MAX_GROUPS)
    while True:
        smaller = _without_idle(path[-1], size, wanted, tried)
        if smaller:
            path.append(smaller)
            size = min(size, -(-len(smaller) // _MAX_GROUPS))
        elif size > 1:
            size = -(-size // 2)
        else:
            return tuple(path)


def _leading(ranking: Sequence[float], wanted: float, tried: _Tried) -> list[LayerSet]:
    """Return what the ranking favours, where so much of it is enough."""
    order = sorted(range(len(ranking)), key=lambda layer: -ranking[layer])
    found: list[LayerSet] = []
    while len(order) > 3:
        parts = [LayerSet(order[: -(-len(order) * i // 4)]) for i in (1, 2, 3)]
        enough = [part for part, e in zip(parts, tried(parts), strict=True) if e >= wanted]
        if not enough:
            break
        found.append(enough[0])
        order = order[: len(enough[0])]
        if enough[0] != parts[0] or len(order) <= _MAX_GROUPS:
            break
    return found


def _without_idle(layers: LayerSet, size: int, wanted: float, tried: _Tried) -> LayerSet | None:
    """Return `layers` without as many of its groups as may go, None where none may."""
    groups = [LayerSet(layers[i : i + size]) for i in range(0, len(layers), size)]
    if len(groups) < 2 or len(groups) > tried.n_left:
        return None
    effects = tried([_without(layers, [group]) for group in groups])
    idle = sorted(range(len(groups)), key=lambda i: -effects[i])
    if effects[idle[0]] < wanted:
        return None
    order = [groups[i] for i in idle]
    n_idle = _most(len(groups) - 1, lambda n: _without(layers, order[:n]), wanted, tried)
    return _without(layers, order[:n_idle])


def _most(high: int, made: Callable[[int], LayerSet], wanted: float, tried: _Tried) -> int:
    """Return the largest number found, up to `high`, whose set is enough; that of 1 is."""
    low = 1
    while low < high and tried.n_left >= _N_PROBES:
        probes = sorted(
            {low - (low - high) * i // (_N_PROBES + 1) for i in range(1, _N_PROBES + 1)}
        )
        effects = tried([made(n) for n in probes])
        enough = [n for n, effect in zip(probes, effects, strict=True) if effect >= wanted]
        low = max(enough, default=low)
        high = min((n for n in probes if n > low), default=high + 1) - 1
    return low


def _confirmed(path: Sequence[LayerSet], tried: _Tried, wanted: float, check: Measure) -> LayerSet:
    """Return the first that is enough on all runs: smaller, found, one layer more, or larger."""
    found, *larger = reversed(path)

    def first_enough(sets: Sequence[LayerSet]) -> LayerSet | None:
        effects = dict(zip(sets, check(sets), strict=True)) if sets else {}
        return next((one for one in sets if effects[one] >= wanted), None)

    confirmed = first_enough([*_nearly(found, tried, wanted), found])
    for _ in range(_MAX_RETURNED):
        # what went last is missed first
        away = [x for x in dict.fromkeys(x for one in larger for x in one) if x not in found]
        more = [LayerSet((*found, x)) for x in away[: min(_MAX_GROUPS, tried.n_left)]]
        if confirmed or not more:
            break
        found = max(zip(tried(more), more, strict=True))[1]
        confirmed = first_enough([found])
    for one in larger[: MAX_CHECKED - _MAX_NEAR - 1 - _MAX_RETURNED]:
        confirmed = confirmed or first_enough([one])
    return confirmed or path[0]


def _nearly(found: LayerSet, tried: _Tried, wanted: float) -> list[LayerSet]:
    """Return what is a layer smaller and nearly enough, the best first."""
    near = [
        (effect, one)
        for one, effect in tried.effects.items()
        if len(one) == len(found) - 1 and wanted - _NEAR_MISS <= effect < wanted
    ]
    return [one for _, one in sorted(near, reverse=True)[:_MAX_NEAR]]


def _without(layers: LayerSet, groups: Sequence[LayerSet]) -> LayerSet:
    gone = {layer for group in groups for layer in group}
    return LayerSet(layer for layer in layers if layer not in gone)
