"""
How strong an edit has to be: what was tried on pictures, and what was taken.

A rung is a ridge in given layers. The climb begins where a constant would be: stronger rungs are
tried where too little is forgotten, gentler ones where too little is kept, and the first that
reaches the target is taken. Where no ridge forgets enough the layers are widened, and where nothing
reaches the target the best of what was tried is taken.

It does not begin at the gentlest: what is just enough in a few prompts is not enough in others.
"""

from collections.abc import Callable, Sequence
from statistics import harmonic_mean
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from loco_cli.layers import LayerSet

N_WIDER = 2  # times that layers are widened
N_FINISHED = 3  # of the rungs that were given up, where none is enough


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StrengthTrial(_Record):
    """
    One rung: `StrengthTrial(layers=((8, 9),), ridge="0.3x", forgotten=1, became=1, kept=1, n=16)`.

    `ridge` is as a recipe has it, `n` how many pictures were made. A rung that could not reach the
    target any more was given up: its shares are of fewer pictures, and `kept` is None. `short` are
    the edits that fell short of the target, counted from 0.
    """

    layers: tuple[LayerSet, ...]
    ridge: str
    forgotten: float | None
    became: float | None
    kept: float | None = None
    n: int = Field(ge=0)
    short: tuple[int, ...] = ()

    def forgets(self, target: float) -> bool:
        """Whether enough was forgotten and became what it should."""
        return all(one is not None and one >= target for one in (self.forgotten, self.became))

    def reaches(self, target: float) -> bool:
        """Whether enough was kept too, where anything was there to be kept."""
        return self.forgets(target) and (self.kept is None or self.kept >= target)

    @property
    def moved(self) -> float:
        """The harmonic mean of forgotten and became."""
        return harmonic_mean([self.forgotten or 0.0, self.became or 0.0])

    @property
    def overall(self) -> float:
        """The harmonic mean of all that is known, unknown moves counted as none."""
        kept = [] if self.kept is None else [self.kept]
        return harmonic_mean([self.forgotten or 0.0, self.became or 0.0, *kept])


class Strength(_Record):
    """
    A measured strength: every rung in the order of the trials, and the one taken by its index.

    `chosen` is None, and nothing was tried, where the base draws nothing of a concept that could be
    forgotten. `prompts` and `seeds` are those of the pictures, which judge no edit afterwards.
    """

    target: float
    seeds: tuple[int, ...]
    steps: int
    prompts: tuple[str, ...]
    tried: tuple[StrengthTrial, ...] = ()
    chosen: int | None = None

    @property
    def taken(self) -> StrengthTrial | None:
        """The rung that was taken."""
        return None if self.chosen is None else self.tried[self.chosen]

    def to_json(self) -> dict[str, Any]:
        """Return the part of a document."""
        return self.model_dump(mode="json")


# the last argument: whether the trial is to be finished
Attempt = Callable[[tuple[LayerSet, ...], str, bool], StrengthTrial]
# the last argument: the edits to widen
Widen = Callable[[tuple[LayerSet, ...], Sequence[int]], tuple[LayerSet, ...]]


def climb(
    ladder: Sequence[str],
    begin: int,
    layers_of: tuple[LayerSet, ...],
    attempt: Attempt,
    widen: Widen,
    target: float,
) -> tuple[tuple[StrengthTrial, ...], int]:
    """
    Return every rung that was tried, in that order, and the index of the one to take.

    `ladder` goes from gentle to strong. Layers are widened, for the edits that fall short, where no
    ridge forgets enough in those there are: more layers forget more, and keep no more.
    """
    tried: list[StrengthTrial] = []
    for _ in range(1 + N_WIDER):
        begun = len(tried)
        tried.append(attempt(layers_of, ladder[begin], False))
        stronger, gentler = ladder[begin + 1 :], ladder[:begin][::-1]
        for ridge in (*gentler, *stronger) if tried[-1].forgets(target) else stronger:
            if tried[-1].reaches(target):
                break
            tried.append(attempt(layers_of, ridge, False))
        if tried[-1].reaches(target):
            return tuple(tried), len(tried) - 1
        wider = widen(layers_of, tried[-1].short)
        if any(one.forgets(target) for one in tried[begun:]) or wider == layers_of:
            break
        layers_of = wider
    return _best(tried, attempt, target)


def max_images(n_forget: int, n_keep: int, n_rungs: int, *, is_widened: bool) -> int:
    """Return how many pictures a climb makes, those before the edit with them."""
    n_all = n_rungs * (1 + N_WIDER) if is_widened else n_rungs
    whole = n_forget + n_keep
    return whole + n_all * n_forget + n_rungs * n_keep + N_FINISHED * whole


def _best(
    tried: list[StrengthTrial], attempt: Attempt, target: float
) -> tuple[tuple[StrengthTrial, ...], int]:
    """Finish the most promising, and return the best of them, the first of equals."""
    promising = sorted(range(len(tried)), key=lambda i: -tried[i].moved)[:N_FINISHED]
    for i in promising:
        if not tried[i].forgets(target):
            tried[i] = attempt(tried[i].layers, tried[i].ridge, True)
    return tuple(tried), max(sorted(promising), key=lambda i: tried[i].overall)
