"""
The page and the sheet of a trace: its heat map, and pictures of clean, corrupted, restored runs.

The colour of a cell is how much of what the noise took comes back when its state is restored.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from loco_cli.families import registry
from loco_cli.interventions import UNET
from loco_cli.report.html import render_page
from loco_cli.report.sentences import listed, percent
from loco_cli.report.sheet import GAP, HEAD, INK, MARK, PAPER, QUIET, Cell, Row, render_sheet
from loco_cli.trace import Trace, TraceRun, TraceScore

_NEUTRAL, _GAIN, _LOSS = (246, 244, 239), (194, 80, 13), (38, 96, 164)
_DARK, _LIGHT = (31, 30, 28), (255, 255, 255)
_Colour = tuple[int, int, int]
_LABELS, _WIDE, _NARROW, _TALL = 130, 74, 26, 20  # pixels: row labels, cells, their height
_MAX_WIDE = 16  # columns that are wide enough for their words
_MIN_RESTORED = 0.5  # share of what the noise takes under which no state is named the concept's


@dataclass(frozen=True)
class _Shade:
    """A restored state: what a tooltip says, what is written, and in which colours."""

    title: str
    words: str
    colour: _Colour
    ink: _Colour
    is_best: bool = False


@dataclass(frozen=True)
class _Grid:
    """States in rows and columns, with holes: `Grid("Self-attention", rows, columns, cells)`."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[_Shade | None, ...], ...]  # by row, then by column


def _grids_of(trace: Trace) -> tuple[_Grid, ...]:
    """
    Return the grids of a trace.

    Of a text encoder one for each kind of state, blocks by token positions; of the UNet one alone,
    kinds by their number in execution order.
    """
    if trace.component == UNET:
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


def _state_words(score: TraceScore) -> str:
    """
    Return a state as a sentence has it: "self-attention of block 0 at the last subject token".

    The UNet's go by their number: "resnet 7".
    """
    if score.token is None:
        return f"{score.kind} {score.index} of the unet"
    token = score.token if score.token == "padding" else f"the {score.token} token"
    return f"{score.kind} of block {score.index} of the {score.component} at {token}"


def trace_sentences(found: Trace) -> tuple[str, ...]:
    """Return what a trace says, in sentences; one that found nothing says so."""
    span = f"{found.clean_score:.3f} to {found.corrupted_score:.3f}"
    if not found.is_harmed:
        return (
            f"noise on the subject hardly changes the score ({span}): raise `--noise`, or the "
            "model, or the scorer, does not know this concept",
        )
    best = found.best()
    share = found.share(best) or 0.0
    gives = f"gives back {share:.0%} of what the noise takes ({span})"
    details = (f"it is {best.component} {best.module_path}", *_among_cross_attentions(found))
    if share < _MIN_RESTORED:
        first = f"no single state holds the concept: the best, {_state_words(best)}, {gives}"
        return (first, *details)
    return (f"{_state_words(best)} {gives}", *details)


def _among_cross_attentions(found: Trace) -> tuple[str, ...]:
    """Return which of the UNet's cross-attentions, where an edit is made, restores most."""
    crossed = [one for one in found.ranked() if one.kind == "cross-attention"]
    # a resnet hands on the whole stream, so do residual attentions: some restore by themselves
    if not crossed or registry.family(found.model.family).has_residual_attention:
        return ()
    best = crossed[0]
    return (
        f"of the cross-attentions, where edits are made, layer {best.index} gives back most: "
        f"{found.share(best) or 0.0:.0%}, {best.module_path}",
    )


def render_trace_report(traced: Sequence[TraceRun], *, command: Sequence[str] = ()) -> str:
    """Return the page of one or several traces: heat maps, pictures, every score."""
    first = traced[0].trace
    names = listed(dict.fromkeys(one.trace.concept.subject for one in traced))
    title = f"Which states of {first.model.name} carry {names}"
    return render_page(
        "trace.html",
        title=title,
        traced=traced,
        grids_of=_grids_of,
        state_words=_state_words,
        command=command,
    )


def render_trace_sheet(traced: Sequence[TraceRun]) -> bytes:
    """Return heat maps and pictures of every concept, one below the other, as PNG."""
    parts: list[Image.Image] = []
    for one in traced:
        trace, concept = one.trace, one.trace.concept
        rows = [
            Row(strip.prompt, tuple(Cell(png, f"{name}  {s:.3f}") for name, png, s in strip.frames))
            for strip in one.strips
        ]
        title = f"{concept.kind} {concept.subject} in {trace.model.name}, {trace.component}"
        parts += [Image.open(io.BytesIO(render_sheet(title, rows)))]
        parts += [_draw_grid(grid) for grid in _grids_of(trace)]
    width, height = max(part.width for part in parts), sum(part.height for part in parts)
    sheet = Image.new("RGB", (width, height), PAPER)
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _grid(title: str, trace: Trace, placed: Iterable[tuple[str, str, TraceScore]]) -> _Grid:
    found = {(row, column): score for row, column, score in placed}
    rows = tuple(dict.fromkeys(row for row, _ in found))
    columns = tuple(dict.fromkeys(column for _, column in found))
    if trace.component == UNET:
        columns = tuple(sorted(columns, key=int))
    top = max([trace.total_effect, *(abs(one.indirect_effect) for one in trace.scores)])
    best = trace.best()
    cells = tuple(
        tuple(
            _shade(trace, found[row, column], top, best) if (row, column) in found else None
            for column in columns
        )
        for row in rows
    )
    return _Grid(title, rows, columns, cells)


def _shade(trace: Trace, score: TraceScore, top: float, best: TraceScore) -> _Shade:
    effect = score.indirect_effect
    strength = min(abs(effect) / top, 1.0) if top > 0 else 0.0
    goal = _GAIN if effect > 0 else _LOSS
    red, green, blue = (round(a + (b - a) * strength) for a, b in zip(_NEUTRAL, goal, strict=True))
    title = (
        f"{_state_words(score)} ({score.module_path}): score {score.score:.3f} "
        f"± {score.stderr:.3f}, {effect:+.3f} ± {score.indirect_effect_stderr:.3f} "
        f"over corrupted, {percent(trace.share(score))} given back"
    )
    share = trace.share(score)
    words = "" if share is None else f"{100 * share:.0f}"
    ink = _LIGHT if strength > 0.6 else _DARK
    return _Shade(title, "0" if words == "-0" else words, (red, green, blue), ink, score == best)


def _draw_grid(grid: _Grid) -> Image.Image:
    n_columns = len(grid.columns)
    side = _WIDE if n_columns <= _MAX_WIDE else _NARROW
    font, bold = ImageFont.load_default(12), ImageFont.load_default(14)
    title = f"{grid.title}: percent of what the noise took"
    width = max(_LABELS + n_columns * side + GAP, round(bold.getlength(title)) + 2 * GAP)
    size = (width, HEAD + (len(grid.rows) + 1) * _TALL + GAP)
    image = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((GAP, GAP), title, INK, bold)
    for i, name in enumerate(grid.columns):
        words = name.replace(" subject", " subj.") if side == _WIDE else name
        draw.text((_LABELS + i * side + 2, HEAD - 2), words, QUIET, font)
    for j, (name, cells) in enumerate(zip(grid.rows, grid.cells, strict=True)):
        top = HEAD + (j + 1) * _TALL
        draw.text((GAP, top + 3), name, INK, font)
        for i, cell in enumerate(cells):
            if cell is not None:
                _draw_shade(draw, cell, (_LABELS + i * side, top), side)
    return image


def _draw_shade(draw: ImageDraw.ImageDraw, cell: _Shade, place: tuple[int, int], side: int) -> None:
    left, top = place
    box = (left, top, left + side - 2, top + _TALL - 2)
    draw.rectangle(box, cell.colour, MARK if cell.is_best else None, 2 if cell.is_best else 0)
    draw.text((left + 4, top + 2), cell.words, cell.ink, ImageFont.load_default(11))
