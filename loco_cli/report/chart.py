"""
Charts of a page: the score of every layer candidate, and the shares of every strength tried.

The layer chart has one bar per candidate. A bar starts at the original's score, so its length is
the candidate's effect; its whisker is one standard error each way. The ladder of strengths has
three bars per trial: `forgotten`, `became` and `kept`.

Vertical positions are in pixels and horizontal ones in percent. A chart thus fits a phone and a
printed page while its text keeps its size.
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
    strength_warnings,
    strength_words,
)

PLOT_TOP = 26.0  # pixels above the bars, for the label of a level
PLOT_HEIGHT = 190.0  # pixels
_AXIS_HEIGHT = 24.0  # pixels below the bars, for one line of numbers
_LINE_HEIGHT = 13.0  # pixels between lines of layer numbers
_BOTTOM_MARGIN = 6.0  # pixels below the last line
_MAX_NUMBERS = 16  # numbers below the bars; with more bars, only every n-th bar has one
_SHARES = ("forgotten", "became", "kept")
_TICKS = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class _Bar:
    """
    The bar of one candidate, inside its slot of the width.

    `whisker` has the y positions of its ends in pixels, `cap` the x positions of the ends of its
    caps in percent. `numbers` are printed below each other, so that all of them fit on a phone.
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
    """A horizontal line across the plot at one score, with its label above or below."""

    words: str
    y: float
    words_y: float


@dataclass(frozen=True)
class _Panel:
    """The bars of a group of candidates: `_Panel("Single layers", "layer", bars)`."""

    title: str
    axis: str
    bars: tuple[_Bar, ...]


@dataclass(frozen=True)
class Chart:
    """Panels that share a scale, the levels of original and full swap, and the ticks."""

    panels: tuple[_Panel, ...]
    original: _Level
    target: _Level
    ticks: tuple[_Level, ...]

    @property
    def height(self) -> float:
        """Height of the chart in pixels."""
        return self.y_of_numbers(self._n_lines - 1) + _BOTTOM_MARGIN

    def y_of_numbers(self, line: int) -> float:
        """Return the y position in pixels of a line of layer numbers, counted from 0."""
        first = PLOT_TOP + PLOT_HEIGHT + PLOT_TOP + _AXIS_HEIGHT - _BOTTOM_MARGIN
        return first + _LINE_HEIGHT * line

    @property
    def _n_lines(self) -> int:
        return max((len(bar.numbers) for panel in self.panels for bar in panel.bars), default=1)


def layer_chart(localization: Localization, paths: Mapping[int, str]) -> Chart:
    """
    Build the chart of a localization.

    Ranges have a panel per width, or a single one if few were tried; sets have a panel of their
    own.

    Args:
        localization: The scores of all candidates.
        paths: The known module path of each layer, for tooltips.
    """
    scale = _Scale(localization)
    return Chart(
        panels=tuple(
            _Panel(title, axis, _bars(candidates, localization, scale, paths))
            for title, axis, candidates in _panels(localization)
        ),
        original=scale.level("original", localization.original_score),
        target=scale.level("all layers swapped", localization.target_score),
        ticks=tuple(_Level(words, y, y + 4) for words, y in scale.ticks()),
    )


def describe(score: WindowScore, paths: Mapping[int, str]) -> str:
    """Return the tooltip of a candidate: its layers, its score, and a module path per line."""
    figures = f"score {score_words(score.score)} ± {score_words(score.stderr)} (n = {score.n})"
    known_paths = (f"{layer}: {paths[layer]}" for layer in score.layer_set if layer in paths)
    return "\n".join(
        (layer_words(score.layer_set), f"{figures}, effect {percent(score.effect)}", *known_paths)
    )


class _Scale:
    """The vertical scale of a chart, which leaves room for the labels above and below the plot."""

    def __init__(self, localization: Localization) -> None:
        original, target = localization.original_score, localization.target_score
        scores = [original, target]
        scores += [s.score + sign * s.stderr for s in localization.scores for sign in (-1, 1)]
        self.low, self.high = min(scores), max(scores)
        if self.low == self.high:
            self.low, self.high = self.low - 0.01, self.high + 0.01
        self._is_original_above = original >= target

    def y(self, score: float) -> float:
        y = PLOT_TOP + PLOT_HEIGHT * (self.high - score) / (self.high - self.low)
        return round(y, 2)

    def level(self, name: str, score: float) -> _Level:
        is_above = (name == "original") == self._is_original_above
        y = self.y(score)
        return _Level(f"{name} {score_words(score)}", y, y - 7 if is_above else y + 17)

    def ticks(self) -> tuple[tuple[str, float], ...]:
        """Return three to seven round scores inside the scale, with their y positions."""
        rough = (self.high - self.low) / 4
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.8)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return tuple(
            (f"{n * step:.{decimals}f}".replace("-", "−"), self.y(n * step))
            for n in range(first, last + 1)
        )


_Candidates = Sequence[tuple[tuple[str, ...], WindowScore]]  # numbers below a bar, and its score


def _panels(localization: Localization) -> Iterator[tuple[str, str, _Candidates]]:
    """Yield title, axis and candidates of each panel: sorted ranges first, then sets as tried."""

    def is_range(score: WindowScore) -> bool:
        return bool(score.layer_range) and localization.window is None

    ranges = sorted(
        filter(is_range, localization.scores),
        key=lambda score: (len(score.layer_set), score.layer_set),
    )
    sets = [score for score in localization.scores if not is_range(score)]
    widths = sorted({len(score.layer_set) for score in ranges})
    if len(widths) > 1 and len(ranges) <= _MAX_NUMBERS:
        yield (
            "Ranges tried",
            "first and last layer",
            [(_ends(score.layer_set), score) for score in ranges],
        )
    else:
        for width in widths:
            panel = [score for score in ranges if len(score.layer_set) == width]
            yield *_panel_words(width), [((str(score.layer_set[0]),), score) for score in panel]
    if sets:
        candidates = [((str(len(score.layer_set)),), score) for score in sets]
        yield "Sets of layers", "number of layers", candidates


def _ends(layers: Sequence[int]) -> tuple[str, ...]:
    return tuple(str(layer) for layer in dict.fromkeys((layers[0], layers[-1])))


def _panel_words(width: int) -> tuple[str, str]:
    if width == 1:
        return "Single layers", "layer"
    return f"Windows of {width} layers", "first layer of the window"


def _bars(
    candidates: _Candidates,
    localization: Localization,
    scale: _Scale,
    paths: Mapping[int, str],
) -> tuple[_Bar, ...]:
    slot = 100 / len(candidates)
    number_step = math.ceil(len(candidates) / _MAX_NUMBERS)
    width = min(slot * 0.68, 9.0)
    zero = scale.y(localization.original_score)
    bars = []
    for i, (numbers, score) in enumerate(candidates):
        y, middle = scale.y(score.score), (i + 0.5) * slot
        bars.append(
            _Bar(
                title=describe(score, paths),
                numbers=numbers if i % number_step == 0 else (),
                is_chosen=score.layer_set == localization.layer_set,
                slot_left=round(i * slot, 3),
                slot=round(slot, 3),
                left=round(middle - width / 2, 3),
                middle=round(middle, 3),
                width=round(width, 3),
                top=min(y, zero),
                height=max(round(abs(y - zero), 2), 1.0),  # an effect of 0 is still visible
                whisker=(scale.y(score.score + score.stderr), scale.y(score.score - score.stderr)),
                cap=(round(middle - width / 6, 3), round(middle + width / 6, 3)),
            )
        )
    return tuple(bars)


def _y_of(share: float) -> float:
    return round(PLOT_TOP + PLOT_HEIGHT * (1 - share), 2)


@dataclass(frozen=True)
class _ShareBar:
    """A known share of one trial: `_ShareBar("kept", 30.0, 6.0, 26.0, 190.0)`."""

    name: str
    left: float
    width: float
    top: float
    height: float


@dataclass(frozen=True)
class _Rung:
    """One trial in its slot of the width; `layers` has its layers in short form."""

    trial: StrengthTrial
    is_chosen: bool
    layers: str
    title: str
    number: str
    slot_left: float
    slot: float
    bars: tuple[_ShareBar, ...]

    @property
    def middle(self) -> float:
        """The x position of the middle of the slot, in percent."""
        return round(self.slot_left + self.slot / 2, 3)


@dataclass(frozen=True)
class Ladder:
    """The section of a page about a measured strength; `levels` are the ticks of its chart."""

    strength: Strength
    rungs: tuple[_Rung, ...]
    target: _Level
    words: str
    warnings: tuple[str, ...]
    levels: tuple[_Level, ...] = tuple(
        _Level(percent(share), _y_of(share), _y_of(share) + 4) for share in _TICKS
    )
    height: float = PLOT_TOP + PLOT_HEIGHT + _AXIS_HEIGHT

    @classmethod
    def of(cls, strength: Strength | None) -> "Ladder | None":
        """Build the ladder of a strength, or return None if no strength was measured."""
        if strength is None:
            return None
        n, y = len(strength.tried), _y_of(strength.target)
        return cls(
            strength,
            tuple(
                _rung(trial, i, n, is_chosen=i == strength.chosen)
                for i, trial in enumerate(strength.tried)
            ),
            _Level(f"target {percent(strength.target)}", y, PLOT_TOP - 8),  # above all bars
            strength_words(strength),
            strength_warnings(strength),
        )


def _rung(trial: StrengthTrial, i: int, n: int, *, is_chosen: bool) -> _Rung:
    slot, shares = 100 / n, {name: getattr(trial, name) for name in _SHARES}
    width = min(slot * 0.24, 5.0)
    left = (i + 0.5) * slot - width * len(_SHARES) / 2
    figures = ", ".join(f"{name} {percent(share)}" for name, share in shares.items())
    layers = _layers_in_short(trial.layers)
    return _Rung(
        trial=trial,
        is_chosen=is_chosen,
        layers=layers,
        title=f"ridge {trial.ridge} in {layers}\n{figures}",
        number=trial.ridge if n <= _MAX_NUMBERS / 2 or is_chosen else "",
        slot_left=round(i * slot, 3),
        slot=round(slot, 3),
        bars=tuple(
            _ShareBar(
                name=name,
                left=round(left + k * width, 3),
                width=round(width * 0.85, 3),
                top=_y_of(share),
                height=max(round(PLOT_HEIGHT * share, 2), 1.0),  # a share of 0 is still visible
            )
            for k, (name, share) in enumerate(shares.items())
            if share is not None
        ),
    )


def _layers_in_short(layers_of_edits: Sequence[LayerSet]) -> str:
    """Return the distinct layers of all edits in short form: `8–9; 4–5`."""
    spans = (layer_span(layers) if layers else place_words(()) for layers in layers_of_edits)
    return "; ".join(dict.fromkeys(spans))
