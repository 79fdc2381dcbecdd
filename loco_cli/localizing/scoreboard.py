"""
The scores of a search: the effect of each set of layers, with its standard error.

All sets of layers are scored on the same runs in the same order. Comparisons are paired by run, so
the variance between prompts and between seeds cancels.

    scale     the mean score change under the full swap
    effect    a set's mean score change, divided by the scale
    lead      the mean paired difference of two sets, in its standard errors
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev

from loco_cli.layers import LayerSet
from loco_cli.localization import MAX_SCALE_ERROR, N_STDERRS_APART, Better, min_accepted_effect

N_FIRST_RUNS = 2  # runs of a window before it may be eliminated
TARGET_STDERR = 0.05  # standard error at which an effect is precise enough to report
N_RIVALS = 2  # rivals that get more runs in the same round as the best window
_MIN_EARLY_SHARE = 0.5  # after the first runs, windows below this share of the best are eliminated


@dataclass(frozen=True)
class Estimate:
    """The effect of a set of layers over `n` runs; its standard error is infinite for one run."""

    layers: LayerSet
    effect: float
    stderr: float
    n: int


@dataclass
class Scoreboard:
    """
    The scores so far: for each set of layers, those of its first runs in the shared order.

    Example:
        `Scoreboard({(): [0.8], (0, 1): [0.2], (0,): [0.3]}, 2, "lower", 0.9, is_auto=False)`

    Args:
        values: The scores of each set. No layers is the original, all layers the full swap.
        n_layers: The number of cross-attention layers.
        better: The direction of a better score.
        required: The effect that the recipe requires.
        is_auto: Prefer the narrowest window that reaches the required effect.
        max_width: Wider windows guide the search but are never chosen.
        full_swap_ids: For each run, the first run with the same full-swap picture.
    """

    values: dict[LayerSet, list[float]]
    n_layers: int
    better: Better
    required: float
    is_auto: bool
    max_width: int | None = None
    full_swap_ids: Sequence[int] | None = None
    _places: dict[LayerSet, list[int]] = field(default_factory=dict, init=False, repr=False)

    def record(self, layers: LayerSet, place: int, score: float) -> None:
        """Add the score of a run, given its place in the shared order; replace an older score."""
        scores, places = self.values.setdefault(layers, []), self._places.setdefault(layers, [])
        i = bisect_left(places, place)
        if places[i : i + 1] == [place]:
            scores[i] = score
        else:
            places.insert(i, place)
            scores.insert(i, score)

    def first(self, n: int) -> "Scoreboard":
        """Return a scoreboard of the first `n` runs only."""
        return replace(self, values={layers: found[:n] for layers, found in self.values.items()})

    @property
    def all_layers(self) -> LayerSet:
        """The layers of the full swap."""
        return LayerSet(range(self.n_layers))

    @property
    def scale(self) -> float:
        """The mean score change under the full swap, over its distinct pictures."""
        return fmean(self._changes())

    @property
    def is_scale_significant(self) -> bool:
        """True if the full swap changes the score significantly and in the right direction."""
        direction = 1.0 if self.better == "lower" else -1.0
        of_runs = [original - target for original, target in self._full_runs()]
        changes = self._changes() if self.n_pictures > 1 else of_runs
        return direction * self.scale > N_STDERRS_APART * _stderr(changes, 0.0)

    @property
    def n_pictures(self) -> int:
        """The number of distinct full-swap pictures."""
        return len(self._changes())

    @property
    def scale_error(self) -> float | None:
        """The relative standard error of the scale, or None for a single picture."""
        if self.n_pictures < 2:
            return None
        return _stderr(self._changes()) / abs(self.scale) if self.scale else 0.0

    def has_more_full_swaps(self, n: int) -> bool:
        """True if more runs would add distinct full-swap pictures to the first `n`."""
        return self.full_swap_ids is None or bool(
            set(self.full_swap_ids[n:]) - set(self.full_swap_ids[:n])
        )

    def needs_better_scale(self, best: Estimate) -> bool:
        """True if more full-swap runs could change whether the best window passes the threshold."""
        n, error = len(self.values[self.all_layers]), self.scale_error or 0.0
        if error <= MAX_SCALE_ERROR or not self.has_more_full_swaps(n):
            return False
        return abs(best.effect - self.required) < N_STDERRS_APART * error * abs(best.effect)

    @property
    def threshold(self) -> float:
        """The lowest accepted effect: the required effect less the uncertainty of the scale."""
        return min_accepted_effect(self.required, self.scale_error)

    def estimates(self) -> tuple[Estimate, ...]:
        """Return the estimates of all windows tried so far, in the order of their first run."""
        all_layers = self.all_layers
        windows = [layers for layers in self.values if layers and layers != all_layers]
        return tuple(map(self.estimate, windows))

    def eligible_estimates(self) -> tuple[Estimate, ...]:
        """Return the estimates of the windows that are narrow enough to be chosen."""
        max_width = self.max_width or self.n_layers
        return tuple(one for one in self.estimates() if len(one.layers) <= max_width)

    def estimate(self, layers: LayerSet, max_runs: int | None = None) -> Estimate:
        """
        Return the effect of a window over its runs, at most the first `max_runs`.

        The standard error leaves out the error of the scale, which is common to all windows and
        does not change their order.
        """
        scores, scale = self.values[layers][:max_runs], self.scale
        n = len(scores)
        if scale == 0:
            return Estimate(layers, 0.0, float("inf"), n)
        runs = zip(self.values[LayerSet()], scores, strict=False)
        changes = [original - score for original, score in runs]
        return Estimate(layers, fmean(changes) / scale, _stderr(changes) / abs(scale), n)

    def best(self) -> Estimate:
        """Return the best of the narrowest windows above the threshold, else the best of all."""
        found = self.eligible_estimates()
        accepted = [e for e in found if self.is_auto and e.effect >= self.threshold]
        narrowest = min((len(e.layers) for e in accepted), default=0)
        chosen = [e for e in accepted if len(e.layers) == narrowest]
        return max(chosen or found, key=lambda e: e.effect)

    def rivals(self, best: Estimate) -> tuple[Estimate, ...]:
        """Return the windows not yet eliminated by the best, the strongest first."""
        is_accepted = self.is_auto and best.effect >= self.threshold
        found = []
        for other in self.eligible_estimates():
            if other.layers == best.layers or (
                is_accepted and len(other.layers) > len(best.layers)
            ):
                continue
            if is_accepted and len(other.layers) < len(best.layers):
                is_rival = self._could_reach_threshold(other)
            else:
                is_rival = not self._is_clearly_worse(best, other)
            if is_rival:
                found.append(other)
        return tuple(sorted(found, key=lambda e: -e.effect))

    def _could_reach_threshold(self, other: Estimate) -> bool:
        if other.n <= N_FIRST_RUNS:
            return other.effect >= _MIN_EARLY_SHARE * self.threshold
        return other.effect + N_STDERRS_APART * max(other.stderr, TARGET_STDERR) >= self.threshold

    def _is_clearly_worse(self, best: Estimate, other: Estimate) -> bool:
        """True if `other` is eliminated; its first runs alone eliminate it only by a wide gap."""
        n = min(best.n, other.n)
        if n <= N_FIRST_RUNS:
            best_effect, effect = (self.estimate(e.layers, n).effect for e in (best, other))
            return effect < _MIN_EARLY_SHARE * best_effect
        return self.lead(best, other) >= N_STDERRS_APART

    def can_settle_threshold(self, best: Estimate, n_all: int) -> bool:
        """True if more runs could settle whether the best window passes the threshold."""
        distance = abs(best.effect - self.threshold)
        final_stderr = best.stderr * (best.n / n_all) ** 0.5
        is_settled = distance >= N_STDERRS_APART * best.stderr
        can_be_settled = distance >= N_STDERRS_APART * final_stderr
        return bool(not is_settled and (final_stderr <= TARGET_STDERR or can_be_settled))

    def can_separate(self, best: Estimate, other: Estimate, n_all: int) -> bool:
        """True if the present lead, extrapolated to all runs, would be significant."""
        n = min(best.n, other.n)
        return bool(self.lead(best, other) * (n_all / n) ** 0.5 >= N_STDERRS_APART)

    def lead(self, best: Estimate, other: Estimate) -> float:
        """Return the mean paired difference of two windows in its standard errors."""
        pairs = zip(self.values[best.layers], self.values[other.layers], strict=False)
        sign = -1.0 if self.better == "lower" else 1.0
        differences = [sign * (a - b) for a, b in pairs]
        return fmean(differences) / max(_stderr(differences, 0.0), 1e-9)

    def _changes(self) -> list[float]:
        """Return the score change of each distinct full-swap picture, averaged over its runs."""
        changes: dict[int, list[float]] = {}
        for i, (original, target) in enumerate(self._full_runs()):
            changes.setdefault(self.full_swap_ids[i] if self.full_swap_ids else i, []).append(
                original - target
            )
        return [fmean(of_picture) for of_picture in changes.values()]

    def _full_runs(self) -> list[tuple[float, float]]:
        """Return the original and full-swap scores of every run that has both."""
        return list(zip(self.values[LayerSet()], self.values[self.all_layers], strict=False))

    def margin(self, best: Estimate) -> float | None:
        """Return the smallest lead over a window of the same width, or None without one."""
        leads = [
            self.lead(best, other)
            for other in self.estimates()
            if other.layers != best.layers and len(other.layers) == len(best.layers)
            if min(other.n, best.n) > 1
        ]
        return min(leads, default=None)


def _stderr(values: Sequence[float], unknown: float = float("inf")) -> float:
    return stdev(values) / len(values) ** 0.5 if len(values) > 1 else unknown
