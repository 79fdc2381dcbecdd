"""The layers of a concept: a score per candidate set of layers, as `loco.localization/1`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Literal

from pydantic import Field

from loco_cli.concept import ConceptKind
from loco_cli.layers import LayerSet
from loco_cli.records import Record, SparseRecord

Better = Literal["lower", "higher"]

N_STDERRS_APART = 2.0  # standard errors between two effects that count as different
MAX_SCALE_ERROR = 0.05  # relative error of the scale of effects, up to which it counts as known
_MIN_ACCEPTED_SHARE = 0.75  # lower bound of effect / wanted, however vague the scale is


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
    """A layer beside its module path, as it is always shown."""

    layer: int
    module_path: str


class PromptNames(Record):
    """A source prompt and the target prompt that was swapped in."""

    source: str
    target: str


class Neuron(Record):
    """
    A channel that tells a concept from its plain prompts: its z-score, and its mean over those.

    `module_path` is that of the projection, `value` what the channel was held at.
    """

    layer: int
    module_path: str
    channel: int
    z: float
    value: float


class Neurons(Record):
    """
    The channels that were held, strongest first in each projection.

    `position` is where in a prompt they were told apart, `layer_effect` the effect of giving their
    layers the target prompt instead.
    """

    position: str
    layer_effect: float | None
    channels: tuple[Neuron, ...]


class WindowScore(SparseRecord):
    """
    The mean score of swapping some layers: `WindowScore(layer_range=(8, 10), score=0.12, ...)`.

    `std` is the sample's, `stderr` is `std / sqrt(n)`; `effect` is None where swapping all layers
    changes nothing, so that no share of it exists. `layers` stands in for `layer_range` where
    they do not touch.
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
        """Return the score of `layers` from the scores of its images, one per prompt and seed."""
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
        """The layers that were swapped."""
        return LayerSet.from_keys(self.layer_range, self.layers)


class Localization(SparseRecord):
    """
    Every candidate's score and the layers that were chosen, as `loco.localization/1`.

    `better` is "lower" where the score is against the source prompt (style, object), "higher"
    where it is against the target prompt (fact). `effect` is that of the chosen layers.
    `pooled_swapped` tells whether the target prompt was also read past the layers, where a model
    pools its prompt. With `neurons` the score is that of holding them in the layers, in place of a
    swap. `ranking` is how large a share of it each layer makes as the fast search guesses, or its
    contribution; `margin` is by how many standard errors the chosen layers are ahead of the next
    as many; `scale_error` is the standard error of what swapping all layers does, as a share of it,
    and so of every effect; `window` is "set" where layers that need not touch were looked for. A
    key that says nothing of a search or a model is left out of its document.
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
        """Return the scores from best to worst; equals keep their order."""
        return tuple(sorted(self.scores, key=lambda s: s.score, reverse=self.better == "higher"))

    def reaches(self, share: float) -> bool:
        """True if the chosen layers do at least this share of the full swap, as it was scored."""
        return self.effect is not None and self.effect >= share

    def is_accepted(self, wanted: float) -> bool:
        """True if the chosen layers are not clearly short of the share `wanted`."""
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

    No layers means the original; the longest of a sweep is the one with all layers swapped.
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
    A localization beside its pictures and every layer's module path, which no document holds.

    `module_paths` are in layer order; without them only the chosen layers have a path to show.
    """

    localization: Localization
    pictures: tuple[SwapPicture, ...] = ()
    module_paths: tuple[str, ...] = ()


def effect(score: float, *, original: float, target: float) -> float | None:
    """
    Return the share of the full swap's effect: 0 at `original`, 1 at `target`.

    None where the full swap changes nothing. Above 1 or below 0 is possible and kept.
    """
    return (original - score) / (original - target) if original != target else None


def min_accepted_effect(wanted: float, scale_error: float | None) -> float:
    """
    Return the effect that is not clearly short of `wanted`, on a scale with this relative error.

    Pictures of the full swap may differ from seed to seed by more than the layers do; what two
    standard errors of the scale leave of `wanted` then has to do, and three quarters in any case.
    """
    return wanted * max(_MIN_ACCEPTED_SHARE, 1 / (1 + N_STDERRS_APART * (scale_error or 0.0)))


def best_score(scores: Sequence[WindowScore], better: Better) -> WindowScore:
    """Return the lowest or highest score, the first of equals; raises ValueError on none."""
    choose = min if better == "lower" else max
    return choose(scores, key=lambda score: score.score)


def better_direction(kind: ConceptKind) -> Better:
    """Return the better direction of a score: a fact's rises towards its target, others fall."""
    return "higher" if kind == "fact" else "lower"
