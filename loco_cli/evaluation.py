"""
The figures of an evaluation, forgotten, became and kept: the document `loco.evaluation/1`.

The figures compare pairs of images: the same prompt and seed before and after the edit. Only images
that the base gets right count. Each figure is the mean over edits or kept concepts, so a concept
with more prompts does not weigh more.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from loco_cli.concept import ConceptKind
from loco_cli.errors import RequestError
from loco_cli.records import Record

_FIGURES = ("forgotten", "became", "kept")
_Z = statistics.NormalDist().inv_cdf(0.975)  # standard deviations to each end of a 95 % interval

_Interval = tuple[float, float]


@dataclass(frozen=True)
class JudgedImage:
    """
    One prompt and seed, before and after: `JudgedImage(0.33, 0.18, True, False, became=True)`.

    `before` and `after` are CLIP scores. Recognition is None if the prompt has no labels. `became`
    is True if the image after the edit is recognised as the target.
    """

    before: float
    after: float
    recognised_before: bool | None = None
    recognised_after: bool | None = None
    became: bool | None = None


@dataclass(frozen=True)
class ForgetImages:
    """The images of one prompt that should be forgotten, one per seed."""

    edit: int
    kind: ConceptKind
    prompt: str
    images: tuple[JudgedImage, ...]


@dataclass(frozen=True)
class KeepImages:
    """The images of one prompt that should be kept, one per seed."""

    concept: str
    prompt: str
    images: tuple[JudgedImage, ...]


@dataclass(frozen=True)
class BeforeAfter:
    """
    One prompt and seed before and after an edit.

    `score_before` and `score_after` are CLIP scores. Recognition is None if the prompt has no
    labels, and `became` is None if the prompt has no target. A fact has one right answer at a time,
    so it is forgotten if the image shows the new answer.
    """

    group: Literal["forget", "keep"]
    prompt: str
    seed: int
    before: bytes = field(repr=False)
    after: bytes = field(repr=False)
    score_before: float
    score_after: float
    recognised_before: bool | None = None
    recognised_after: bool | None = None
    became: bool | None = None
    is_fact: bool = False

    @property
    def verdict(self) -> str:
        """The result of the edit in two or three words; empty if the prompt has no labels."""
        if self.recognised_before is None:
            return ""
        if not self.recognised_before:
            return "not counted"  # the base picture is wrong
        if self.group == "keep":
            return "kept" if self.recognised_after else "lost"
        if self.recognised_after:
            return "still there"
        if self.became:
            return "became target"
        return "something else" if self.is_fact else "forgotten"

    @property
    def is_success(self) -> bool | None:
        """True if the edit has its intended effect; None if the picture does not count."""
        if not self.recognised_before:
            return None
        if self.group == "keep":
            return bool(self.recognised_after)
        return bool(self.became) if self.is_fact else not self.recognised_after


class ForgetRow(Record):
    """A prompt that should be forgotten: mean scores, and shares of its images if labelled."""

    edit: int
    prompt: str
    before: float
    after: float
    recognised_before: float | None
    recognised_after: float | None
    became: float | None

    @classmethod
    def of(cls, one: ForgetImages) -> "ForgetRow":
        """Return the row of a prompt from its images."""
        became = _share(image.became for image in one.images)
        return cls(edit=one.edit, prompt=one.prompt, became=became, **_shares(one.images))


class KeepRow(Record):
    """A prompt that should be kept: mean scores, and shares of its images if labelled."""

    concept: str
    prompt: str
    before: float
    after: float
    recognised_before: float | None
    recognised_after: float | None

    @classmethod
    def of(cls, one: KeepImages) -> "KeepRow":
        """Return the row of a prompt from its images."""
        return cls(concept=one.concept, prompt=one.prompt, **_shares(one.images))


class Evaluation(Record):
    """
    All prompts and the three figures: `loco.evaluation/1`.

    A figure is None if the base gets none of its images right. `intervals` has the 95 % interval
    of each known figure. The interval of the harmonic mean combines the three lower ends and the
    three upper ends, so it is conservative.
    """

    schema_: Literal["loco.evaluation/1"] = Field("loco.evaluation/1", alias="schema")
    forget: tuple[ForgetRow, ...]
    keep: tuple[KeepRow, ...]
    forgotten: float | None
    became: float | None
    kept: float | None
    harmonic_mean: float | None
    seeds: tuple[int, ...]
    intervals: dict[str, _Interval] = Field({})

    @classmethod
    def of(
        cls, forget: Sequence[ForgetImages], keep: Sequence[KeepImages], seeds: Sequence[int]
    ) -> "Evaluation":
        """Return the rows, figures and intervals of all judged images."""
        shares = {
            "forgotten": _edit_outcomes(forget, _is_forgotten),
            "became": _edit_outcomes(forget, lambda kind, image: bool(image.became)),
            "kept": _concept_outcomes(keep),
        }
        figures = {name: _mean(groups) for name, groups in shares.items()}
        intervals = {name: _interval(groups) for name, groups in shares.items() if groups}
        if len(intervals) == len(shares):
            ends = zip(*intervals.values(), strict=True)
            low, high = (statistics.harmonic_mean(end) for end in ends)
            intervals["harmonic_mean"] = (low, high)
        return cls(
            forget=tuple(ForgetRow.of(one) for one in forget),
            keep=tuple(KeepRow.of(one) for one in keep),
            **figures,
            harmonic_mean=_harmonic_mean(tuple(figures.values())),
            seeds=tuple(seeds),
            intervals=intervals,
        )

    @property
    def figures(self) -> dict[str, float | None]:
        """The figures `forgotten`, `became` and `kept` by name."""
        return {"forgotten": self.forgotten, "became": self.became, "kept": self.kept}

    @property
    def unlabelled(self) -> tuple[float, float] | None:
        """Mean scores before and after, over kept prompts without labels; None without any."""
        rows = [(one.before, one.after) for one in self.keep if one.recognised_before is None]
        if not rows:
            return None
        before, after = map(statistics.fmean, zip(*rows, strict=True))
        return before, after

    def below(self, limits: Mapping[str, float]) -> tuple[str, ...]:
        """Return a sentence for each figure that is unknown or below its limit."""
        return tuple(
            f"`{name}` is {'unknown' if figure is None else f'{figure:.3f}'} (limit {limit:g})"
            for name, limit in limits.items()
            for figure in [self.figures[name]]
            if figure is None or figure < limit
        )


def _harmonic_mean(figures: Sequence[float | None]) -> float | None:
    """Return the harmonic mean of shares: 0 if one is 0, None if one is None."""
    known = [figure for figure in figures if figure is not None]
    return statistics.harmonic_mean(known) if len(known) == len(figures) else None


def _interval(groups: Sequence[Sequence[bool]]) -> _Interval:
    """
    Return the 95 % interval of the mean of shares, one share per non-empty group of images.

    Wilson's score interval, E. B. Wilson 1927, for k groups of n_i images with the effective number
    of images `1 / sum(1 / (k^2 n_i))`. Pictures of one prompt are correlated, so an interval over
    new prompts would be wider.
    """
    share = statistics.fmean(map(statistics.fmean, groups))
    n = len(groups) ** 2 / sum(1 / len(group) for group in groups)
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + (_Z / (2 * n)) ** 2) / (1 + _Z**2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def parse_limits(text: str) -> dict[str, float]:
    """
    Return the limits of `"forgotten=0.9,kept=0.95"` by figure, each a share from 0 to 1.

    Raises:
        RequestError: A figure is unknown, or a limit is not a share.
    """
    limits: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in _FIGURES:
            raise RequestError(f"unknown metric `{name}`", f"choose from {', '.join(_FIGURES)}")
        try:
            limits[name] = float(value)
        except ValueError:
            limits[name] = -1.0
        if not 0 <= limits[name] <= 1:
            raise RequestError(
                f"limit `{part.strip()}` is not a share from 0 to 1",
                "write it like `forgotten=0.9,kept=0.95`",
            )
    return limits


def _is_forgotten(kind: ConceptKind, image: JudgedImage) -> bool:
    # a fact has one right answer at a time, so the new answer replaces the old one
    return bool(image.became) if kind == "fact" else not image.recognised_after


def _edit_outcomes(
    forget: Sequence[ForgetImages], counts: Callable[[ConceptKind, JudgedImage], bool]
) -> list[list[bool]]:
    """Return the outcomes of the images that count, by edit; empty if an edit has none."""
    edits: defaultdict[int, list[bool]] = defaultdict(list)
    for one in forget:
        edits[one.edit] += [counts(one.kind, i) for i in one.images if i.recognised_before]
    # the mean of the other edits must not stand for an edit without images
    return list(edits.values()) if all(edits.values()) else []


def _concept_outcomes(keep: Sequence[KeepImages]) -> list[list[bool]]:
    """Return the outcomes of the images that the base gets right, by concept."""
    concepts: defaultdict[str, list[bool]] = defaultdict(list)
    for one in keep:
        kept = [bool(i.recognised_after) for i in one.images if i.recognised_before]
        concepts[one.concept] += kept
    return [kept for kept in concepts.values() if kept]


def _mean(groups: Sequence[Sequence[bool]]) -> float | None:
    return statistics.fmean(map(statistics.fmean, groups)) if groups else None


def _shares(images: Sequence[JudgedImage]) -> dict[str, Any]:
    return {
        "before": statistics.fmean(image.before for image in images),
        "after": statistics.fmean(image.after for image in images),
        "recognised_before": _share(image.recognised_before for image in images),
        "recognised_after": _share(image.recognised_after for image in images),
    }


def _share(flags: Iterable[bool | None]) -> float | None:
    known = [flag for flag in flags if flag is not None]
    return statistics.fmean(known) if known else None
