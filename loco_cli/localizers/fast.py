"""
LocoGen's answer from a few of its runs: rank cheaply, try the likely, and go on until it is clear.

The objective is the exhaustive sweep's: the window with the best score, or the narrowest whose
effect is enough. What is left out are runs that can no longer change the answer:

    1.  every layer's share of the full swap, to first order, from one run per prompt (attribution);
    2.  the full swap, once per prompt: the scale of all effects, which is made surer where it
        matters;
    3.  the windows that the shares favour, on one prompt and seed: for `width: auto` narrow ones
        first, and wider ones only where none of these is enough;
    4.  where none of them is enough, windows that together hold every layer, and those around the
        best of them, so that nothing is missed because the ranking was wrong;
    5.  more prompts and seeds for the best and for what is not yet clearly behind it;
    6.  the best one's neighbours, on every prompt but where two runs leave them far behind, and the
        best itself on at least two seeds of each, until it is clear that it is enough, or its
        effect is known to `PRECISION`.

Windows are compared on the same prompts and seeds, so that what these differ in cancels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from loco_cli.layers import LayerWindow, sliding_windows
from loco_cli.localization import CLEAR, KNOWN_SCALE, Better, enough

Layers = tuple[int, ...]

N_STEPS = 5  # of a run that are replayed to rank the layers; ranks hold from three on
PASSES = 4  # of the UNet per replayed step: full swap, original, and its backward pass, two
PROMISING = 0.5  # of what is wanted: a first run under it calls for a second look at once
FAR = 0.5  # of what the best does: what does less in its first runs is given up
N_FIRST = 2  # runs of a neighbour before it may be given up
PRECISION = 0.05  # of an effect that is reported: its standard error
N_RIVALS = 2  # that go on together with the best
N_BLOCKS = 16  # about as many windows hold all layers in a second look
LEAST_SHARE = 5  # a fifth of the exhaustive sweep's price is what comparing may cost
N_ROWS = 4  # but no less than so many windows on every prompt and seed
MOST_ROWS = 12  # and no more, however many layers there are


def shortlist(shares: Sequence[float], width: int, widths: Sequence[int]) -> tuple[Layers, ...]:
    """
    Return the windows of one of the widths that have the largest shares.

    Of a single width four; of several widths three of the narrowest, and one less of each next.
    """
    windows = [tuple(window) for window in sliding_windows(len(shares), width)]
    windows.sort(key=lambda layers: -sum(shares[layer] for layer in layers))
    return tuple(windows[: 4 if len(widths) == 1 else max(1, 3 - widths.index(width))])


def cover(n_layers: int, width: int) -> tuple[Layers, ...]:
    """Return windows that overlap by half and hold every layer; wider ones where layers abound."""
    width = max(width, -(-n_layers // N_BLOCKS))
    starts = range(0, n_layers - width, max(1, -(-width // 2)))
    return tuple(tuple(range(i, i + width)) for i in (*starts, n_layers - width))


def around(layers: Layers, width: int, n_layers: int) -> tuple[Layers, ...]:
    """Return the windows of `width` that lie in `layers`, or one layer beside them."""
    low, high = max(0, layers[0] - 1), min(n_layers, layers[-1] + 2)
    inside = (LayerWindow(i, i + width) for i in range(low, high - width + 1))
    return tuple(tuple(window) for window in inside)


def neighbours(layers: Layers, n_layers: int, *, is_auto: bool) -> tuple[Layers, ...]:
    """Return the windows one layer beside this one and, for `width: auto`, those one narrower."""
    width = len(layers)
    found = [w for w in around(layers, width, n_layers) if w != layers]
    if is_auto and width > 1:
        found += [layers[:-1], layers[1:]]
    return tuple(found)


def allowance(n_windows: int, n_pairs: int) -> int:
    """Return after how many pictures nothing more is tried beside the best."""
    return min(max(n_windows // LEAST_SHARE, N_ROWS), MOST_ROWS) * n_pairs


def at_most(n_windows: int, n_pairs: int) -> int:
    """
    Return how many pictures a search makes at most, of how many windows there are.

    Past its allowance it ends the round that it is in, and runs the original, the full swap and
    the best on every prompt and seed.
    """
    spent = allowance(n_windows, n_pairs) + (2 * N_RIVALS + N_ROWS) * n_pairs
    return min((n_windows + 2) * n_pairs, spent)


@dataclass(frozen=True)
class Estimate:
    """An effect, its standard error (infinite from a single run), and from how many runs."""

    layers: Layers
    effect: float
    stderr: float
    n: int


@dataclass(frozen=True)
class Race:
    """
    What was scored so far: for every set of layers the scores of the first runs, in one order.

    Windows of more than `widest` layers only tell where to look: they are never the best. `alike`
    tells of every run which picture of the full swap is its own, where several runs share one.

    `Race({(): [0.8], (0, 1): [0.2], (0,): [0.3]}, n_layers=2, better="lower", wanted=0.9)`
    """

    values: Mapping[Layers, Sequence[float]]
    n_layers: int
    better: Better
    wanted: float
    is_auto: bool
    widest: int | None = None
    alike: Sequence[int] | None = None

    @property
    def everything(self) -> Layers:
        """All layers: the full swap."""
        return tuple(range(self.n_layers))

    @property
    def span(self) -> float:
        """What the full swap does to the score, a mean over its pictures: the scale of effects."""
        return fmean(self._changes())

    @property
    def is_known(self) -> bool:
        """Whether the full swap moves the score the right way, and by more than its runs differ."""
        towards = 1.0 if self.better == "lower" else -1.0
        return towards * self.span > CLEAR * _stderr(self._changes(), 0.0)

    @property
    def scale_error(self) -> float:
        """The standard error of the span, as a share of it; 0 of a single picture."""
        return _stderr(self._changes(), 0.0) / abs(self.span) if self.span else 0.0

    def is_new_to_scale(self, n: int) -> bool:
        """Whether pictures of the full swap are left beyond its first `n` runs."""
        return self.alike is None or bool(set(self.alike[n:]) - set(self.alike[:n]))

    def is_scale_in_doubt(self, best: Estimate) -> bool:
        """Whether it hangs on a scale that can still be made surer if the best is enough."""
        n = len(self.values[self.everything])
        if self.scale_error <= KNOWN_SCALE or not self.is_new_to_scale(n):
            return False
        return abs(best.effect - self.wanted) < CLEAR * self.scale_error * abs(best.effect)

    @property
    def enough(self) -> float:
        """The effect that is enough, as far as the scale is known."""
        return enough(self.wanted, self.scale_error)

    def estimates(self) -> tuple[Estimate, ...]:
        """Return what is known of every window that was tried, in the order of the trials."""
        windows = [layers for layers in self.values if layers and layers != self.everything]
        return tuple(map(self.estimate, windows))

    def candidates(self) -> tuple[Estimate, ...]:
        """Return what is known of the windows that may be chosen."""
        widest = self.widest or self.n_layers
        return tuple(one for one in self.estimates() if len(one.layers) <= widest)

    def estimate(self, layers: Layers, most: int | None = None) -> Estimate:
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
        runs = zip(self.values[()], scores, strict=False)
        changes = [original - score for original, score in runs]
        return Estimate(layers, fmean(changes) / span, _stderr(changes) / abs(span), n)

    def best(self) -> Estimate:
        """Return the best of the narrowest windows that are enough, else the best of all."""
        found = self.candidates()
        enough = [e for e in found if self.is_auto and e.effect >= self.enough]
        narrowest = min((len(e.layers) for e in enough), default=0)
        return max(
            [e for e in enough if len(e.layers) == narrowest] or found, key=lambda e: e.effect
        )

    def rivals(self, best: Estimate) -> tuple[Estimate, ...]:
        """Return what could still take the place of the best, the likeliest first."""
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
        return tuple(sorted(found, key=lambda e: -e.effect))[:N_RIVALS]

    def _could_be_enough(self, other: Estimate) -> bool:
        if other.n <= N_FIRST:
            return other.effect >= FAR * self.enough
        return other.effect + CLEAR * max(other.stderr, PRECISION) >= self.enough

    def _is_behind(self, best: Estimate, other: Estimate) -> bool:
        """Whether another is clearly behind; of a few runs only that it is far behind is clear."""
        n = min(best.n, other.n)
        if n <= N_FIRST:
            mine, theirs = (self.estimate(one.layers, n).effect for one in (best, other))
            return theirs < FAR * mine
        return self.lead(best, other) >= CLEAR

    def may_be_settled(self, best: Estimate, n_all: int) -> bool:
        """Whether it is not clear that the best is enough or not, and may be with all runs."""
        short, error = abs(best.effect - self.enough), best.stderr * (best.n / n_all) ** 0.5
        is_clear = short >= CLEAR * best.stderr
        return not is_clear and (error <= PRECISION or short >= CLEAR * error)

    def may_be_told_apart(self, best: Estimate, other: Estimate, n_all: int) -> bool:
        """Whether all runs may show the best ahead, from what those show that both have had."""
        n = min(best.n, other.n)
        return self.lead(best, other) * (n_all / n) ** 0.5 >= CLEAR

    def lead(self, best: Estimate, other: Estimate) -> float:
        """Return by how many standard errors the best is ahead, on the runs that both had."""
        mine, theirs = self.values[best.layers], self.values[other.layers]
        sign = -1.0 if self.better == "lower" else 1.0
        ahead = [sign * (a - b) for a, b in zip(mine, theirs, strict=False)]
        return fmean(ahead) / max(_stderr(ahead, 0.0), 1e-9)

    def _changes(self) -> list[float]:
        """Return what the full swap does, once for each of its pictures."""
        changes: dict[int, list[float]] = {}
        runs = zip(self.values[()], self.values[self.everything], strict=False)
        for i, (original, target) in enumerate(runs):
            changes.setdefault(self.alike[i] if self.alike else i, []).append(original - target)
        return [fmean(own) for own in changes.values()]

    def margin(self, best: Estimate) -> float | None:
        """Return the smallest lead over a window of the same width, None where there is none."""
        leads = [
            self.lead(best, other)
            for other in self.estimates()
            if other.layers != best.layers and len(other.layers) == len(best.layers)
            if min(other.n, best.n) > 1
        ]
        return min(leads, default=None)


def lacking(
    race: Race, best: Estimate, n_prompts: int, n_all: int, *, may_compare: bool
) -> dict[Layers, int]:
    """
    Return which windows need how many runs before the best is sure; none means that it is.

    First runs decide what goes on to every prompt. The best is then run twice per prompt, and on
    until it is clearly enough or its effect is precise; one that is clearly not enough once per
    prompt, and on while another is as good, unless it is clearly not half of that. What all runs
    there are would not make clear, from what two per prompt have shown, is left open.
    """

    def more(n: int) -> int:
        return min(n_prompts if n < n_prompts else 2 * n, n_all)

    is_below = best.effect + CLEAR * best.stderr < race.enough
    least = min(n_prompts if is_below else 2 * n_prompts, n_all)
    is_hopeless = best.effect + CLEAR * best.stderr < PROMISING * race.enough
    last = min((1 if is_hopeless else 2) * n_prompts, n_all) if is_below else n_all
    rivals = [
        rival
        for rival in (race.rivals(best) if may_compare else ())
        if min(best.n, rival.n) < 2 * n_prompts or race.may_be_told_apart(best, rival, n_all)
    ]
    found = {
        rival.layers: more(rival.n)
        for rival in rivals
        if rival.n < max(best.n, n_prompts) and rival.n < n_all
    }
    is_vague = best.stderr > PRECISION and race.may_be_settled(best, n_all)
    if best.n < least or (best.n < last and not found and (rivals or is_vague)):
        found[best.layers] = more(best.n)
    n_full = len(race.values[race.everything])
    if race.is_auto and n_full < n_all and race.is_scale_in_doubt(best):
        found[race.everything] = more(n_full)
    if may_compare and best.n >= min(n_prompts, n_all):
        for window in neighbours(best.layers, race.n_layers, is_auto=race.is_auto):
            if len(race.values.get(window, ())) < min(N_FIRST, n_all):
                found[window] = min(N_FIRST, n_all)
    return found


def _stderr(values: Sequence[float], unknown: float = float("inf")) -> float:
    return stdev(values) / len(values) ** 0.5 if len(values) > 1 else unknown
