"""Results of causal tracing: the scores of restored states, and the document `loco.trace/1`."""

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

    Attributes:
        token: The restored tokens; None in the UNet.
        index: The index among states of this kind in execution order; the block in a text encoder.
        indirect_effect: The mean over images of the restored score minus the corrupted score.
        indirect_effect_stderr: The standard error of that mean.
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
    The clean, corrupted and restored scores of a concept: `loco.trace/1`.

    Scores are CLIP scores against the source prompt. `noise` is in standard deviations of the
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
        """The clean score minus the corrupted score."""
        return self.clean_score - self.corrupted_score

    @property
    def is_degraded(self) -> bool:
        """True if the total effect exceeds two standard errors of the scores."""
        return self.total_effect > 2 * max(self.clean_stderr, self.corrupted_stderr)

    def share(self, score: TraceScore) -> float | None:
        """Return the share of the total effect that a state restores; None without an effect."""
        return score.indirect_effect / self.total_effect if self.total_effect > 0 else None

    def ranked(self) -> tuple[TraceScore, ...]:
        """
        Return the scores from best to worst by their indirect effect; equal ones keep their order.

        `score` would give the same order if every prompt had every token. A token that only some
        prompts have would be ranked by these prompts.
        """
        return tuple(sorted(self.scores, key=lambda one: one.indirect_effect, reverse=True))

    def best(self) -> TraceScore:
        """Return the score of the state with the largest indirect effect."""
        return self.ranked()[0]


class Traces(Record):
    """The traces of a recipe with several edits, as `loco.traces/1`."""

    schema_: Literal["loco.traces/1"] = Field("loco.traces/1", alias="schema")
    traces: tuple[Trace, ...]


@dataclass(frozen=True)
class TracedStrip:
    """
    The PNG pictures and scores of a prompt: clean, corrupted, and with the best state restored.
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
    """A trace and its pictures."""

    trace: Trace
    strips: tuple[TracedStrip, ...] = ()


def mean_and_errors(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean, the sample standard deviation, and the standard error of the mean."""
    std = stdev(values) if len(values) > 1 else 0.0
    return fmean(values), std, std / len(values) ** 0.5
