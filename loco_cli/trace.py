"""The result of causal tracing: a score per restored state, as `loco.trace/1`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Literal

from pydantic import Field

from loco_cli.localization import ConceptName, ModelName
from loco_cli.records import Record

Component = Literal["unet", "text-encoder"]
StateKind = Literal["self-attention", "cross-attention", "feed-forward", "mlp", "resnet"]


class TraceScore(Record):
    """
    The mean score of restoring one state, over prompts and seeds.

    `token` names the positions that were restored, None in the UNet. `index` counts the states of
    a kind in execution order; in a text encoder it is the block. `indirect_effect` is the mean of
    restored less corrupted, image by image, and has a standard error of its own.
    """

    component: str
    module_path: str
    token: str | None
    kind: StateKind
    index: int
    score: float
    std: float
    stderr: float
    indirect_effect: float
    indirect_effect_stderr: float
    n: int


class Trace(Record):
    """
    Clean, corrupted and restored scores of a concept, as `loco.trace/1`.

    Scores are CLIP scores against the source prompt. `noise` counts standard deviations of the
    word embeddings.
    """

    schema_: Literal["loco.trace/1"] = Field("loco.trace/1", alias="schema")
    model: ModelName
    concept: ConceptName
    method: Literal["causal-trace"] = "causal-trace"
    component: Component
    noise: float
    scores: tuple[TraceScore, ...]
    clean_score: float
    clean_stderr: float
    corrupted_score: float
    corrupted_stderr: float
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    guidance: float
    scorer: str
    unet_evaluations: int
    seconds: float

    @property
    def total_effect(self) -> float:
        """The score that the noise takes, clean less corrupted."""
        return self.clean_score - self.corrupted_score

    @property
    def is_degraded(self) -> bool:
        """True if the noise takes more than the scores scatter."""
        return self.total_effect > 2 * max(self.clean_stderr, self.corrupted_stderr)

    def share(self, score: TraceScore) -> float | None:
        """Return how much of what the noise takes a state gives back; None if it takes nothing."""
        return score.indirect_effect / self.total_effect if self.total_effect > 0 else None

    def ranked(self) -> tuple[TraceScore, ...]:
        """
        Return the scores from best to worst by their indirect effect; equals keep their order.

        By `score` the order is the same where every prompt has the place. A place that only some
        have would be ranked by those prompts.
        """
        return tuple(sorted(self.scores, key=lambda one: one.indirect_effect, reverse=True))

    def best(self) -> TraceScore:
        """Return the state that restores most."""
        return self.ranked()[0]


class Traces(Record):
    """The traces of a recipe with several edits, as `loco.traces/1`."""

    schema_: Literal["loco.traces/1"] = Field("loco.traces/1", alias="schema")
    traces: tuple[Trace, ...]


@dataclass(frozen=True)
class TracedStrip:
    """
    A prompt's pictures as PNG with their scores: clean, corrupted, and the best state restored.
    """

    prompt: str
    pictures: tuple[tuple[bytes, float], ...] = field(repr=False)

    @property
    def frames(self) -> tuple[tuple[str, bytes, float], ...]:
        """Each picture with its name."""
        names = ("clean", "corrupted", "restored")
        return tuple((name, *one) for name, one in zip(names, self.pictures, strict=False))


@dataclass(frozen=True)
class TraceRun:
    """A trace beside its pictures, which no document holds."""

    trace: Trace
    strips: tuple[TracedStrip, ...] = ()


def mean_and_errors(values: Sequence[float]) -> tuple[float, float, float]:
    """Return mean, standard deviation of the sample, and standard error of the mean."""
    std = stdev(values) if len(values) > 1 else 0.0
    return fmean(values), std, std / len(values) ** 0.5
