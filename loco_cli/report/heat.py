"""A trace as grids of cells, whose colour is how much of what the noise took came back."""

from collections.abc import Iterable
from dataclasses import dataclass

from loco_cli.report.words import percent
from loco_cli.trace import Trace, TraceScore

_PAPER, _GAIN, _LOSS = (246, 244, 239), (194, 80, 13), (38, 96, 164)
_DARK, _LIGHT = (31, 30, 28), (255, 255, 255)
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Cell:
    """A restored state: what a tooltip says, what is written, and in which colours."""

    title: str
    words: str
    colour: Colour
    ink: Colour
    is_best: bool = False


@dataclass(frozen=True)
class Grid:
    """States in rows and columns, with holes: `Grid("Self-attention", rows, columns, cells)`."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[Cell | None, ...], ...]  # by row, then by column


def grids_of(trace: Trace) -> tuple[Grid, ...]:
    """
    Return the grids of a trace.

    Of a text encoder one for each kind of state, blocks by token positions; of the UNet one alone,
    kinds by their number in execution order.
    """
    if trace.component == "unet":
        return (
            _grid(
                "UNet",
                trace,
                [(one.kind, str(one.index), one) for one in trace.scores],
            ),
        )
    groups: dict[str, list[TraceScore]] = {}
    for one in trace.scores:
        groups.setdefault(f"{one.component}, {one.kind}", []).append(one)
    return tuple(
        _grid(title, trace, [(f"block {one.index}", one.token or "", one) for one in scores])
        for title, scores in groups.items()
    )


def state_words(score: TraceScore) -> str:
    """Return a state as a sentence has it: "self-attention of block 0 at the last subject token".

    The UNet's go by their number: "resnet 7".
    """
    if score.token is None:
        return f"{score.kind} {score.index} of the unet"
    token = score.token if score.token == "padding" else f"the {score.token} token"
    return f"{score.kind} of block {score.index} of the {score.component} at {token}"


def _grid(title: str, trace: Trace, placed: Iterable[tuple[str, str, TraceScore]]) -> Grid:
    found = {(row, column): score for row, column, score in placed}
    rows = tuple(dict.fromkeys(row for row, _ in found))
    columns = tuple(dict.fromkeys(column for _, column in found))
    if trace.component == "unet":
        columns = tuple(sorted(columns, key=int))
    top = max([trace.total_effect, *(abs(one.indirect_effect) for one in trace.scores)])
    best = trace.best()
    cells = tuple(
        tuple(
            _cell(trace, found[row, column], top, best) if (row, column) in found else None
            for column in columns
        )
        for row in rows
    )
    return Grid(title, rows, columns, cells)


def _cell(trace: Trace, score: TraceScore, top: float, best: TraceScore) -> Cell:
    effect = score.indirect_effect
    strength = min(abs(effect) / top, 1.0) if top > 0 else 0.0
    goal = _GAIN if effect > 0 else _LOSS
    red, green, blue = (round(a + (b - a) * strength) for a, b in zip(_PAPER, goal, strict=True))
    title = (
        f"{state_words(score)} ({score.module_path}): score {score.score:.3f} "
        f"± {score.stderr:.3f}, {effect:+.3f} ± {score.indirect_effect_stderr:.3f} "
        f"over corrupted, {percent(trace.share(score))} given back"
    )
    share = trace.share(score)
    words = "" if share is None else f"{100 * share:.0f}"
    ink = _LIGHT if strength > 0.6 else _DARK
    return Cell(title, "0" if words == "-0" else words, (red, green, blue), ink, score == best)
