"""Pictures in the order in which they are looked at: window by window, prompt by prompt."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from loco_cli.evaluation import Evaluation, ForgetRow, KeepRow
from loco_cli.report.pictures import BeforeAfter, LocalizationRun
from loco_cli.report.words import layer_span

Means = TypeVar("Means", ForgetRow, KeepRow)


@dataclass(frozen=True)
class Frame:
    """A picture of a strip and what stands below it: `Frame("8–9", (8, 9), 0.12, True, png)`."""

    name: str
    layers: tuple[int, ...]
    score: float
    is_chosen: bool
    png: bytes = field(repr=False)


@dataclass(frozen=True)
class Strip:
    """The pictures of one prompt pair: the original, every candidate, all layers swapped."""

    source: str
    target: str
    frames: tuple[Frame, ...]
    seed: int


@dataclass(frozen=True)
class Asked(Generic[Means]):
    """One prompt of an evaluation: its means, and its pictures before and after."""

    row: Means
    pairs: tuple[BeforeAfter, ...]


def swap_strips(swept: LocalizationRun) -> tuple[Strip, ...]:
    """Return one strip per prompt pair, in the order of the pictures; narrow candidates first."""
    chosen = swept.localization.layer_set
    everything = max((p.layers for p in swept.pictures), key=len, default=())
    frames: defaultdict[tuple[str, str], list[Frame]] = defaultdict(list)
    for picture in sorted(swept.pictures, key=lambda p: (len(p.layers), p.layers)):
        is_full = bool(picture.layers) and picture.layers == everything
        frames[picture.source, picture.target].append(
            Frame(
                name="all" if is_full else layer_span(picture.layers),
                layers=picture.layers,
                score=picture.score,
                is_chosen=picture.layers == chosen,
                png=picture.png,
            )
        )
    seeds = {(p.source, p.target): p.seed for p in swept.pictures}
    return tuple(Strip(*pair, tuple(frames[pair]), seed) for pair, seed in seeds.items())


def of_chosen_width(strip: Strip, width: int) -> Strip:
    """Return a strip with the original, the candidates of one width, and all layers swapped."""
    edges = (strip.frames[0], strip.frames[-1])
    kept = (frame for frame in strip.frames if frame in edges or len(frame.layers) == width)
    return Strip(strip.source, strip.target, tuple(kept), strip.seed)


def ask_again(
    evaluation: Evaluation, pairs: Iterable[BeforeAfter]
) -> tuple[tuple[Asked[ForgetRow], ...], tuple[Asked[KeepRow], ...]]:
    """Return the prompts to forget and those to keep, each with its pictures, one per seed."""
    waiting: defaultdict[tuple[str, str], list[BeforeAfter]] = defaultdict(list)
    for pair in pairs:
        waiting[pair.group, pair.prompt].append(pair)
    n = len(evaluation.seeds)

    def take(group: str, row: Means) -> Asked[Means]:
        # two edits may ask the same prompt: each row takes one picture per seed
        queue = waiting[group, row.prompt]
        waiting[group, row.prompt] = queue[n:]
        return Asked(row, tuple(queue[:n]))

    forget = tuple(take("forget", row) for row in evaluation.forget)
    return forget, tuple(take("keep", row) for row in evaluation.keep)
