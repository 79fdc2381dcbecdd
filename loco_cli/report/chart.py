"""
Charts of a page: the score of every candidate for layers, the shares of every strength tried.

The layer chart has one bar per candidate, from the original's score towards the full swap's.

A bar starts where nothing is swapped, so that its length is the candidate's effect; its whisker is
one standard error each way. Heights are pixels, places along the layers are percent, so that the
chart fits a phone and a printed page without its words growing or shrinking.

The ladder of strengths has three bars for each trial: `forgotten`, `became` and `kept`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from loco_cli.layers import LayerSet
from loco_cli.localization import Localization, WindowScore
from loco_cli.manifest import Strength, StrengthTrial
from loco_cli.report.sentences import (
    layer_span,
    layer_words,
    percent,
    place_words,
    score_words,
    strength_words,
    too_weak,
)

TOP, PLOT, _FOOT = 26.0, 190.0, 24.0  # pixels: room for a line's words, the bars, a line of numbers
_LINE, _BELOW = 13.0, 6.0  # pixels from a line of layer numbers to the next, and below the last
_MAX_NUMBERS = 16  # numbers below the bars; of more bars only every n-th has one
_SHARES = ("forgotten", "became", "kept")
_TICKS = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class _Bar:
    """
    One candidate, in its slot of the width: `whisker` and what is vertical is in pixels, `cap`, the
    ends of the whisker's caps, and what is horizontal in percent. `numbers` stand below each other,
    which leaves room for all of them on a phone.
    """

    title: str
    numbers: tuple[str, ...]
    is_chosen: bool
    slot_left: float
    slot: float
    left: float
    middle: float
    width: float
    top: float
    height: float
    whisker: tuple[float, float]
    cap: tuple[float, float]


@dataclass(frozen=True)
class _Level:
    """A score across the whole plot, at a height, with its words above or below."""

    words: str
    y: float
    words_y: float


@dataclass(frozen=True)
class _Panel:
    """The bars of some candidates: `Panel("Single layers", "layer", bars)`."""

    title: str
    axis: str
    bars: tuple[_Bar, ...]


@dataclass(frozen=True)
class Chart:
    """Panels that share a scale, the levels of original and full swap, and the scale's ticks."""

    panels: tuple[_Panel, ...]
    original: _Level
    target: _Level
    ticks: tuple[_Level, ...]

    @property
    def height(self) -> float:
        """All of it, in pixels."""
        return self.y_of_numbers(self._n_lines - 1) + _BELOW

    def y_of_numbers(self, line: int) -> float:
        """Return the height of a line of layer numbers, in pixels; the first line is 0."""
        return TOP + PLOT + TOP + _FOOT - _BELOW + _LINE * line

    @property
    def _n_lines(self) -> int:
        return max((len(bar.numbers) for panel in self.panels for bar in panel.bars), default=1)


def layer_chart(found: Localization, paths: Mapping[int, str]) -> Chart:
    """
    Return the chart of a localization; `paths` are the module paths.

    Ranges have a panel for each width, or one for all where few were tried; sets have their own.
    """
    scale = _Scale(found)
    return Chart(
        panels=tuple(
            _Panel(title, axis, _bars(named, found, scale, paths))
            for title, axis, named in _panels(found)
        ),
        original=scale.level("original", found.original_score),
        target=scale.level("all layers swapped", found.target_score),
        ticks=tuple(_Level(words, y, y + 4) for words, y in scale.ticks()),
    )


def describe(score: WindowScore, paths: Mapping[int, str]) -> str:
    """Return all that is known of a candidate, its layers' module paths included, a line each."""
    figures = f"score {score_words(score.score)} ± {score_words(score.stderr)} (n = {score.n})"
    where = (f"{layer}: {paths[layer]}" for layer in score.layer_set if layer in paths)
    return "\n".join(
        (layer_words(score.layer_set), f"{figures}, effect {percent(score.effect)}", *where)
    )


class _Scale:
    """Scores to heights: everything that is drawn lies between the two rooms for words."""

    def __init__(self, found: Localization) -> None:
        scores = [found.original_score, found.target_score]
        scores += [s.score + sign * s.stderr for s in found.scores for sign in (-1, 1)]
        self.low, self.high = min(scores), max(scores)
        if self.low == self.high:
            self.low, self.high = self.low - 0.01, self.high + 0.01
        self._is_original_above = found.original_score >= found.target_score

    def y(self, score: float) -> float:
        return round(TOP + PLOT * (self.high - score) / (self.high - self.low), 2)

    def level(self, name: str, score: float) -> _Level:
        is_above = (name == "original") == self._is_original_above
        y = self.y(score)
        return _Level(f"{name} {score_words(score)}", y, y - 7 if is_above else y + 17)

    def ticks(self) -> tuple[tuple[str, float], ...]:
        """Return three to seven round scores inside the scale, with their heights."""
        rough = (self.high - self.low) / 4
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.8)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return tuple(
            (f"{n * step:.{decimals}f}".replace("-", "−"), self.y(n * step))
            for n in range(first, last + 1)
        )


_Named = Sequence[tuple[tuple[str, ...], WindowScore]]  # what stands below a bar, and what it shows


def _panels(found: Localization) -> Iterator[tuple[str, str, _Named]]:
    """Yield title, axis and candidates of each panel: ranges by width and place, sets as tried."""
    is_range = [bool(score.layer_range) and found.window is None for score in found.scores]
    ranges = sorted(
        (score for score, one in zip(found.scores, is_range, strict=True) if one),
        key=lambda score: (len(score.layer_set), score.layer_set),
    )
    sets = [score for score, one in zip(found.scores, is_range, strict=True) if not one]
    widths = sorted({len(score.layer_set) for score in ranges})
    if len(widths) > 1 and len(ranges) <= _MAX_NUMBERS:
        yield (
            "Ranges that were tried",
            "first and last layer",
            [(_ends(score.layer_set), score) for score in ranges],
        )
    else:
        for width in widths:
            own = [score for score in ranges if len(score.layer_set) == width]
            yield *_panel_words(width), [((str(score.layer_set[0]),), score) for score in own]
    if sets:
        named = [((str(len(score.layer_set)),), score) for score in sets]
        yield "Sets of layers", "how many layers", named


def _ends(layers: Sequence[int]) -> tuple[str, ...]:
    return tuple(str(layer) for layer in dict.fromkeys((layers[0], layers[-1])))


def _panel_words(width: int) -> tuple[str, str]:
    if width == 1:
        return "Single layers", "layer"
    return f"Windows of {width} layers", "first layer of the window"


def _bars(
    named: _Named, found: Localization, scale: _Scale, paths: Mapping[int, str]
) -> tuple[_Bar, ...]:
    slot = 100 / len(named)
    every = math.ceil(len(named) / _MAX_NUMBERS)
    width = min(slot * 0.68, 9.0)
    zero = scale.y(found.original_score)
    bars = []
    for i, (numbers, score) in enumerate(named):
        y, middle = scale.y(score.score), (i + 0.5) * slot
        bars.append(
            _Bar(
                title=describe(score, paths),
                numbers=numbers if i % every == 0 else (),
                is_chosen=score.layer_set == found.layer_set,
                slot_left=round(i * slot, 3),
                slot=round(slot, 3),
                left=round(middle - width / 2, 3),
                middle=round(middle, 3),
                width=round(width, 3),
                top=min(y, zero),
                height=max(round(abs(y - zero), 2), 1.0),  # no effect is a line, not nothing
                whisker=(scale.y(score.score + score.stderr), scale.y(score.score - score.stderr)),
                cap=(round(middle - width / 6, 3), round(middle + width / 6, 3)),
            )
        )
    return tuple(bars)


@dataclass(frozen=True)
class _ShareBar:
    """A share of one trial, no bar where it is unknown: `Bar("kept", 30.0, 6.0, 26.0, 190.0)`."""

    name: str
    left: float
    width: float
    top: float
    height: float


@dataclass(frozen=True)
class _Rung:
    """One trial in its slot of the width, in percent; `where` are its layers in short."""

    trial: StrengthTrial
    is_chosen: bool
    where: str
    title: str
    number: str
    slot_left: float
    slot: float
    bars: tuple[_ShareBar, ...]

    @property
    def middle(self) -> float:
        """The middle of the slot."""
        return round(self.slot_left + self.slot / 2, 3)


@dataclass(frozen=True)
class Ladder:
    """A measured strength as its part of a page shows it; `levels` are the scale's ticks."""

    strength: Strength
    rungs: tuple[_Rung, ...]
    target: _Level
    words: str
    warnings: tuple[str, ...]
    levels: tuple[_Level, ...] = tuple(
        _Level(percent(share), TOP + PLOT * (1 - share), TOP + PLOT * (1 - share) + 4)
        for share in _TICKS
    )
    height: float = TOP + PLOT + _FOOT

    @classmethod
    def of(cls, strength: Strength | None) -> "Ladder | None":
        """Return the ladder of a strength, None where nothing was measured."""
        if strength is None:
            return None
        n, y = len(strength.tried), _height_of(strength.target)
        return cls(
            strength,
            tuple(
                _rung(trial, i, n, is_chosen=i == strength.chosen)
                for i, trial in enumerate(strength.tried)
            ),
            _Level(f"target {percent(strength.target)}", y, TOP - 8),  # above all bars
            strength_words(strength),
            too_weak(strength),
        )


def _rung(trial: StrengthTrial, i: int, n: int, *, is_chosen: bool) -> _Rung:
    slot, shares = 100 / n, {name: getattr(trial, name) for name in _SHARES}
    width = min(slot * 0.24, 5.0)
    left = (i + 0.5) * slot - width * len(_SHARES) / 2
    known = ", ".join(f"{name} {percent(share)}" for name, share in shares.items())
    return _Rung(
        trial=trial,
        is_chosen=is_chosen,
        where=_where(trial.layers),
        title=f"ridge {trial.ridge} in {_where(trial.layers)}\n{known}",
        number=trial.ridge if n <= _MAX_NUMBERS / 2 or is_chosen else "",
        slot_left=round(i * slot, 3),
        slot=round(slot, 3),
        bars=tuple(
            _ShareBar(
                name=name,
                left=round(left + k * width, 3),
                width=round(width * 0.85, 3),
                top=_height_of(share),
                height=max(round(PLOT * share, 2), 1.0),  # nothing is a line, unknown is no bar
            )
            for k, (name, share) in enumerate(shares.items())
            if share is not None
        ),
    )


def _height_of(share: float) -> float:
    return round(TOP + PLOT * (1 - share), 2)


def _where(layers_of: Sequence[LayerSet]) -> str:
    """Return the layers of every edit in short: `8–9; 4–5`, once where all are the same."""
    return "; ".join(
        dict.fromkeys(layer_span(layers) if layers else place_words(()) for layers in layers_of)
    )
