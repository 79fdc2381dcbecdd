"""Localization results: the scores of layer sets, and the document `loco.localization/1`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Literal

from pydantic import Field

from loco_cli.concept import ConceptKind
from loco_cli.layers import LayerSet
from loco_cli.records import Record, SparseRecord

Better = Literal["lower", "higher"]

N_STDERRS_APART = 2.0  # two effects differ if they are this many standard errors apart
MAX_SCALE_ERROR = 0.05  # a scale with a larger relative error counts as uncertain
_MIN_ACCEPTED_SHARE = 0.75  # lower bound on effect / wanted, however noisy the scale is


class ModelName(Record):
    """A model as a document names it: `ModelName(name="tiny", family="sd1")`."""

    name: str
    family: str


class ConceptName(Record):
    """
    A concept as a document names it: `ConceptName(kind="style", subject="monet", to="painting")`.
    """

    kind: ConceptKind
    subject: str
    to: str


class LayerName(Record):
    """A layer and its module path."""

    layer: int
    module_path: str


class PromptNames(Record):
    """A source prompt and the target prompt that replaces it in the swapped layers."""

    source: str
    target: str


class Neuron(Record):
    """
    A channel that separates a concept from its target prompts.

    Attributes:
        layer: The layer of the projection.
        module_path: The module path of the projection.
        channel: The index of the channel.
        z: The z-score of the difference between source and target prompts.
        value: The mean over the target prompts; the channel is held at this value.
    """

    layer: int
    module_path: str
    channel: int
    z: float
    value: float


class Neurons(Record):
    """
    The held channels of a localization, largest z-score first in each projection.

    `position` is the token of a prompt that was compared. `layer_effect` is the effect of swapping
    the prompt of the same layers.
    """

    position: str
    layer_effect: float | None
    channels: tuple[Neuron, ...]


class WindowScore(SparseRecord):
    """
    The mean score of swapping some layers: `WindowScore(layer_range=(8, 10), score=0.12, ...)`.

    `std` is the sample standard deviation and `stderr` is `std / sqrt(n)`. `effect` is None if
    swapping all layers changes nothing. `layers` replaces `layer_range` if the layers are not
    contiguous.
    """

    omitted_if_none = frozenset({"layer_range", "layers"})
    layer_range: tuple[int, int] | None = None
    layers: tuple[int, ...] | None = None
    score: float
    std: float
    stderr: float
    effect: float | None
    n: int

    @classmethod
    def of(
        cls, layers: Sequence[int], values: Sequence[float], *, original: float, target: float
    ) -> "WindowScore":
        """Return the score of `layers` from its image scores, one per prompt and seed."""
        score = fmean(values)
        std = stdev(values) if len(values) > 1 else 0.0
        return cls(
            **LayerSet(layers).to_keys(),
            score=score,
            std=std,
            stderr=std / len(values) ** 0.5,
            effect=effect(score, original=original, target=target),
            n=len(values),
        )

    @property
    def layer_set(self) -> LayerSet:
        """The swapped layers."""
        return LayerSet.from_keys(self.layer_range, self.layers)


class Localization(SparseRecord):
    """
    The score of every candidate and the chosen layers: `loco.localization/1`.

    Optional keys are omitted from the document if they do not apply.

    Attributes:
        better: "lower" if scores compare pictures with the source prompt (style, object), "higher"
            if they compare pictures with the target prompt (fact).
        effect: The effect of the chosen layers.
        pooled_swapped: True if the pooled embedding came from the target prompt too.
        neurons: The held neurons. If present, scores are for holding them instead of a swap.
        ranking: One share per layer: the effect that the fast search predicts, or the contribution.
        margin: The lead of the chosen layers over the next candidate of the same size, in standard
            errors.
        scale_error: The relative standard error of the full swap, and so of every effect.
        window: "set" if the search allowed layers that are not contiguous.
    """

    omitted_if_none = frozenset(
        {"pooled_swapped", "neurons", "ranking", "margin", "scale_error", "window"}
    )
    schema_: Literal["loco.localization/1"] = Field("loco.localization/1", alias="schema")
    model: ModelName
    concept: ConceptName
    method: str
    search: str
    width: int
    layer_range: tuple[int, int] | None
    effect: float | None
    better: Better
    layers: tuple[LayerName, ...]
    scores: tuple[WindowScore, ...]
    original_score: float
    target_score: float
    prompts: tuple[PromptNames, ...]
    seeds: tuple[int, ...]
    steps: int
    guidance: float
    scorer: str
    unet_evaluations: int
    seconds: float
    pooled_swapped: bool | None = None
    neurons: Neurons | None = None
    ranking: tuple[float, ...] | None = None
    margin: float | None = None
    scale_error: float | None = None
    window: Literal["set"] | None = None

    @property
    def layer_set(self) -> LayerSet:
        """The chosen layers."""
        return LayerSet([layer.layer for layer in self.layers])

    def ranked(self) -> tuple[WindowScore, ...]:
        """Return the scores from best to worst; equal scores keep their order."""
        return tuple(sorted(self.scores, key=lambda s: s.score, reverse=self.better == "higher"))

    def reaches(self, share: float) -> bool:
        """Return True if the measured effect of the chosen layers is at least `share`."""
        return self.effect is not None and self.effect >= share

    def is_accepted(self, wanted: float) -> bool:
        """Return True if the effect of the chosen layers is not clearly below `wanted`."""
        return self.effect is not None and self.effect >= min_accepted_effect(
            wanted, self.scale_error
        )


class Localizations(Record):
    """The localizations of a recipe with several edits, as `loco.localizations/1`."""

    schema_: Literal["loco.localizations/1"] = Field("loco.localizations/1", alias="schema")
    localizations: tuple[Localization, ...]


@dataclass(frozen=True)
class SwapPicture:
    """
    A picture of a sweep: `SwapPicture("a house by monet", "a painting", 0, (8, 9), 0.12, png)`.

    The original has no layers. The picture with the most layers has all layers swapped.
    """

    source: str
    target: str
    seed: int
    layers: tuple[int, ...]
    score: float
    png: bytes = field(repr=False)


@dataclass(frozen=True)
class LocalizationRun:
    """
    A localization with its pictures and the module path of every layer.

    `module_paths` are in layer order. If they are empty, only the chosen layers have a path.
    """

    localization: Localization
    pictures: tuple[SwapPicture, ...] = ()
    module_paths: tuple[str, ...] = ()


def effect(score: float, *, original: float, target: float) -> float | None:
    """
    Return a score's change relative to the full swap: 0 at `original`, 1 at `target`.

    The result is not clipped to that range. It is None if the full swap changes nothing.
    """
    return (original - score) / (original - target) if original != target else None


def min_accepted_effect(wanted: float, scale_error: float | None) -> float:
    """
    Return the smallest effect that is not clearly below `wanted`.

    The full swap varies between seeds, so the scale of effects has an error. An effect is accepted
    if it is at most two standard errors below `wanted`, and never below three quarters of it.

    Args:
        wanted: The required effect, a share of the full swap.
        scale_error: The relative standard error of the full swap; None means no error.
    """
    return wanted * max(_MIN_ACCEPTED_SHARE, 1 / (1 + N_STDERRS_APART * (scale_error or 0.0)))


def best_score(scores: Sequence[WindowScore], better: Better) -> WindowScore:
    """Return the best score, the first of equal ones; raises ValueError if there are none."""
    choose = min if better == "lower" else max
    return choose(scores, key=lambda score: score.score)


def better_direction(kind: ConceptKind) -> Better:
    """Return "higher" for a fact, whose score rises towards the target; else "lower"."""
    return "higher" if kind == "fact" else "lower"
