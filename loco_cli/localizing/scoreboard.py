"""
The scores of a search: the effect of each set of layers after a few runs, and how sure it is.

All sets of layers have the same runs in the same order, so that differences between prompts and
between seeds cancel.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev

from loco_cli.layers import LayerSet
from loco_cli.localization import MAX_SCALE_ERROR, N_STDERRS_APART, Better, min_accepted_effect

N_FIRST_RUNS = 2  # runs that a window has had before it may be given up
PRECISION = 0.05  # standard error of an effect that is reported
N_RIVALS = 2  # windows that are run on together with the best
_GIVE_UP_SHARE = 0.5  # a window with less of the best's effect in its first runs is given up


@dataclass(frozen=True)
class Estimate:
    """An effect, its standard error (infinite from a single run), and from how many runs."""

    layers: LayerSet
    effect: float
    stderr: float
    n: int


@dataclass
class Scoreboard:
    """
    The scores so far: for every set of layers those of its first runs, in an order that all share.

    It is updated by `record` as runs come in. Windows of more than `widest` layers only tell where
    to look and are never the best. `shared_swap_of` tells of every run which picture of the full
    swap is its own, where several runs share one.

    `Scoreboard({(): [0.8], (0, 1): [0.2], (0,): [0.3]}, n_layers=2, better="lower", wanted=0.9)`
    """

    values: dict[LayerSet, list[float]]
    n_layers: int
    better: Better
    wanted: float
    is_auto: bool
    widest: int | None = None
    shared_swap_of: Sequence[int] | None = None
    _places: dict[LayerSet, list[int]] = field(default_factory=dict, init=False, repr=False)

    def record(self, layers: LayerSet, place: int, score: float) -> None:
        """Take in the score of some layers' run at a place of the common order."""
        scores, places = self.values.setdefault(layers, []), self._places.setdefault(layers, [])
        i = bisect_left(places, place)
        if places[i : i + 1] == [place]:
            scores[i] = score
        else:
            places.insert(i, place)
            scores.insert(i, score)

    def first(self, n: int) -> "Scoreboard":
        """Return the scores of the first `n` runs alone."""
        return replace(self, values={layers: found[:n] for layers, found in self.values.items()})

    @property
    def everything(self) -> LayerSet:
        """All layers: the full swap."""
        return LayerSet(range(self.n_layers))

    @property
    def span(self) -> float:
        """The change of the score by the full swap, a mean over its pictures."""
        return fmean(self._changes())

    @property
    def is_known(self) -> bool:
        """Whether the full swap moves the score the right way, and by more than its runs differ."""
        towards = 1.0 if self.better == "lower" else -1.0
        of_runs = [original - target for original, target in self._full_runs()]
        changes = self._changes() if self.n_pictures > 1 else of_runs
        return towards * self.span > N_STDERRS_APART * _stderr(changes, 0.0)

    @property
    def n_pictures(self) -> int:
        """How many different pictures of the full swap were scored."""
        return len(self._changes())

    @property
    def scale_error(self) -> float | None:
        """The standard error of the span, as a share of it; None of a single picture."""
        if self.n_pictures < 2:
            return None
        return _stderr(self._changes()) / abs(self.span) if self.span else 0.0

    def is_new_to_scale(self, n: int) -> bool:
        """Whether pictures of the full swap are left beyond its first `n` runs."""
        return self.shared_swap_of is None or bool(
            set(self.shared_swap_of[n:]) - set(self.shared_swap_of[:n])
        )

    def is_scale_in_doubt(self, best: Estimate) -> bool:
        """Whether more runs of the full swap could change that the best is, or is not, enough."""
        n, error = len(self.values[self.everything]), self.scale_error or 0.0
        if error <= MAX_SCALE_ERROR or not self.is_new_to_scale(n):
            return False
        return abs(best.effect - self.wanted) < N_STDERRS_APART * error * abs(best.effect)

    @property
    def enough(self) -> float:
        """The effect that is enough, as far as the scale is known."""
        return min_accepted_effect(self.wanted, self.scale_error)

    def estimates(self) -> tuple[Estimate, ...]:
        """Return the estimate of every window that was tried, in the order of the trials."""
        everything = self.everything
        windows = [layers for layers in self.values if layers and layers != everything]
        return tuple(map(self.estimate, windows))

    def candidates(self) -> tuple[Estimate, ...]:
        """Return the estimates of the windows that may be chosen."""
        widest = self.widest or self.n_layers
        return tuple(one for one in self.estimates() if len(one.layers) <= widest)

    def estimate(self, layers: LayerSet, most: int | None = None) -> Estimate:
        """
        Return a window's effect: the mean change on its own runs, as a share of the span.

        With `most` on so many of the first of them. The span's own error is all windows' and left
        out: it changes no order. A full swap may be one picture for all prompts of a seed, so that
        a single run of it says little.
        """
        scores, span = self.values[layers][:most], self.span
        n = len(scores)
        if span == 0:
            return Estimate(layers, 0.0, float("inf"), n)
        runs = zip(self.values[LayerSet()], scores, strict=False)
        changes = [original - score for original, score in runs]
        return Estimate(layers, fmean(changes) / span, _stderr(changes) / abs(span), n)

    def best(self) -> Estimate:
        """Return the best of the narrowest windows that are enough, else the best of all."""
        found = self.candidates()
        able = [e for e in found if self.is_auto and e.effect >= self.enough]
        narrowest = min((len(e.layers) for e in able), default=0)
        return max([e for e in able if len(e.layers) == narrowest] or found, key=lambda e: e.effect)

    def rivals(self, best: Estimate) -> tuple[Estimate, ...]:
        """Return the windows that could still take the place of the best, the likeliest first."""
        is_enough = self.is_auto and best.effect >= self.enough
        found = []
        for other in self.candidates():
            if other.layers == best.layers or (is_enough and len(other.layers) > len(best.layers)):
                continue
            if is_enough and len(other.layers) < len(best.layers):
                could = self._could_be_enough(other)
            else:
                could = not self._is_behind(best, other)
            if could:
                found.append(other)
        return tuple(sorted(found, key=lambda e: -e.effect))

    def _could_be_enough(self, other: Estimate) -> bool:
        if other.n <= N_FIRST_RUNS:
            return other.effect >= _GIVE_UP_SHARE * self.enough
        return other.effect + N_STDERRS_APART * max(other.stderr, PRECISION) >= self.enough

    def _is_behind(self, best: Estimate, other: Estimate) -> bool:
        """Whether another is clearly behind; after a few runs only a large distance is clear."""
        n = min(best.n, other.n)
        if n <= N_FIRST_RUNS:
            mine, theirs = (self.estimate(e.layers, n).effect for e in (best, other))
            return theirs < _GIVE_UP_SHARE * mine
        return self.lead(best, other) >= N_STDERRS_APART

    def may_be_settled(self, best: Estimate, n_all: int) -> bool:
        """Whether it is not clear that the best is enough or not, and may be with all runs."""
        short, error = abs(best.effect - self.enough), best.stderr * (best.n / n_all) ** 0.5
        is_clear = short >= N_STDERRS_APART * best.stderr
        return bool(not is_clear and (error <= PRECISION or short >= N_STDERRS_APART * error))

    def may_be_told_apart(self, best: Estimate, other: Estimate, n_all: int) -> bool:
        """Whether all runs may show the best ahead, from what those show that both have had."""
        n = min(best.n, other.n)
        return bool(self.lead(best, other) * (n_all / n) ** 0.5 >= N_STDERRS_APART)

    def lead(self, best: Estimate, other: Estimate) -> float:
        """Return by how many standard errors the best is ahead, on the runs that both had."""
        mine, theirs = self.values[best.layers], self.values[other.layers]
        sign = -1.0 if self.better == "lower" else 1.0
        ahead = [sign * (a - b) for a, b in zip(mine, theirs, strict=False)]
        return fmean(ahead) / max(_stderr(ahead, 0.0), 1e-9)

    def _changes(self) -> list[float]:
        """Return what the full swap does, once for each of its pictures."""
        changes: dict[int, list[float]] = {}
        for i, (original, target) in enumerate(self._full_runs()):
            changes.setdefault(self.shared_swap_of[i] if self.shared_swap_of else i, []).append(
                original - target
            )
        return [fmean(of_picture) for of_picture in changes.values()]

    def _full_runs(self) -> list[tuple[float, float]]:
        """Return the scores of the original and of the full swap, of every run that had both."""
        return list(zip(self.values[LayerSet()], self.values[self.everything], strict=False))

    def margin(self, best: Estimate) -> float | None:
        """Return the smallest lead over a window of the same width, None where there is none."""
        leads = [
            self.lead(best, other)
            for other in self.estimates()
            if other.layers != best.layers and len(other.layers) == len(best.layers)
            if min(other.n, best.n) > 1
        ]
        return min(leads, default=None)


def _stderr(values: Sequence[float], unknown: float = float("inf")) -> float:
    return stdev(values) / len(values) ** 0.5 if len(values) > 1 else unknown
