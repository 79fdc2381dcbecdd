"""
The strengths that were tried on pictures, as bars: forgotten, became and kept of every rung.

Heights are pixels and places percent, as in the layer chart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from loco_cli.layers import LayerSet
from loco_cli.report.chart import FOOT, MAX_NUMBERS, PLOT, TOP, Level
from loco_cli.report.words import layer_span, percent, place_words, strength_words, too_weak
from loco_cli.strength import Strength, StrengthTrial

SHARES = ("forgotten", "became", "kept")
TICKS = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Bar:
    """One share of one rung; an unknown one has none: `Bar("kept", 30.0, 6.0, 26.0, 190.0)`."""

    name: str
    left: float
    width: float
    top: float
    height: float


@dataclass(frozen=True)
class Rung:
    """One trial in its slot of the width, in percent; `where` are its layers in short."""

    trial: StrengthTrial
    is_chosen: bool
    where: str
    title: str
    number: str
    slot_left: float
    slot: float
    bars: tuple[Bar, ...]

    @property
    def middle(self) -> float:
        """The middle of the slot."""
        return round(self.slot_left + self.slot / 2, 3)


@dataclass(frozen=True)
class Ladder:
    """A measured strength as its part of a page shows it; `levels` are the scale's ticks."""

    strength: Strength
    rungs: tuple[Rung, ...]
    target: Level
    words: str
    warnings: tuple[str, ...]
    levels: tuple[Level, ...] = tuple(
        Level(percent(share), TOP + PLOT * (1 - share), TOP + PLOT * (1 - share) + 4)
        for share in TICKS
    )
    height: float = TOP + PLOT + FOOT

    @classmethod
    def of(cls, strength: Strength | None) -> "Ladder | None":
        """Return what a page shows of a strength, None where nothing was measured."""
        if strength is None:
            return None
        n, y = len(strength.tried), _height(strength.target)
        return cls(
            strength,
            tuple(
                _rung(trial, i, n, is_chosen=i == strength.chosen)
                for i, trial in enumerate(strength.tried)
            ),
            Level(f"target {percent(strength.target)}", y, TOP - 8),  # above all bars
            strength_words(strength),
            too_weak(strength),
        )


def _rung(trial: StrengthTrial, i: int, n: int, *, is_chosen: bool) -> Rung:
    slot, shares = 100 / n, {name: getattr(trial, name) for name in SHARES}
    width = min(slot * 0.24, 5.0)
    left = (i + 0.5) * slot - width * len(SHARES) / 2
    known = ", ".join(f"{name} {percent(share)}" for name, share in shares.items())
    return Rung(
        trial=trial,
        is_chosen=is_chosen,
        where=_where(trial.layers),
        title=f"ridge {trial.ridge} in {_where(trial.layers)}\n{known}",
        number=trial.ridge if n <= MAX_NUMBERS / 2 or is_chosen else "",
        slot_left=round(i * slot, 3),
        slot=round(slot, 3),
        bars=tuple(
            Bar(
                name=name,
                left=round(left + k * width, 3),
                width=round(width * 0.85, 3),
                top=_height(share),
                height=max(round(PLOT * share, 2), 1.0),  # nothing is a line, unknown is no bar
            )
            for k, (name, share) in enumerate(shares.items())
            if share is not None
        ),
    )


def _height(share: float) -> float:
    return round(TOP + PLOT * (1 - share), 2)


def _where(layers_of: Sequence[LayerSet]) -> str:
    """Return the layers of every edit in short: `8–9; 4–5`, once where all are the same."""
    return "; ".join(
        dict.fromkeys(layer_span(layers) if layers else place_words(()) for layers in layers_of)
    )
