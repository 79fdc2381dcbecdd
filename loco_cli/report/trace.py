"""
The page, the sheet and the sentences of a trace.

A heat map has one cell per state. Its colour shows how much of the score lost to noise the model
recovers when that state is restored. The pictures are those of clean, corrupted and restored runs.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from loco_cli.families import registry
from loco_cli.interventions import UNET
from loco_cli.report.html import render_page
from loco_cli.report.sentences import join_words, percent
from loco_cli.report.sheet import (
    GAP,
    INK,
    MARK_INK,
    NOTE_INK,
    PAPER,
    TITLE_HEIGHT,
    Cell,
    Row,
    render_sheet,
)
from loco_cli.trace import Trace, TraceRun, TraceScore

_NO_EFFECT, _GAIN, _LOSS = (246, 244, 239), (194, 80, 13), (38, 96, 164)
_DARK_INK, _LIGHT_INK = (31, 30, 28), (255, 255, 255)
_Colour = tuple[int, int, int]
_LABEL_WIDTH, _WIDE_CELL, _NARROW_CELL, _CELL_HEIGHT = 130, 74, 26, 20  # pixels
_MAX_WIDE_COLUMNS = 16  # with more columns, cells are narrow and their headings short
_MIN_RECOVERED = 0.5  # share of the lost score; below it no single state holds the concept


@dataclass(frozen=True)
class _Cell:
    """The cell of a restored state: its tooltip, its text and its colours."""

    title: str
    words: str
    colour: _Colour
    ink: _Colour
    is_best: bool = False


@dataclass(frozen=True)
class _Grid:
    """States in rows and columns; a missing one is None: `_Grid("UNet", rows, columns, cells)`."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[_Cell | None, ...], ...]  # by row, then by column


def _grids_of(trace: Trace) -> tuple[_Grid, ...]:
    """
    Return the grids of a trace.

    A text encoder has one grid per kind of state, with blocks as rows and tokens as columns. The
    UNet has a single grid, with kinds as rows and their numbers in execution order as columns.
    """
    if trace.component == UNET:
        return (_grid("UNet", trace, {(s.kind, str(s.index)): s for s in trace.scores}),)
    groups: dict[str, dict[tuple[str, str], TraceScore]] = {}
    for score in trace.scores:
        group = groups.setdefault(f"{score.component}, {score.kind}", {})
        group[f"block {score.index}", score.token or ""] = score
    return tuple(_grid(title, trace, placed) for title, placed in groups.items())


def _state_words(score: TraceScore) -> str:
    """
    Return a state as words: "mlp of block 0 of the text_encoder at the last subject token".

    A state of the UNet has a number instead: "resnet 7 of the unet".
    """
    if score.token is None:
        return f"{score.kind} {score.index} of the unet"
    token = score.token if score.token == "padding" else f"the {score.token} token"
    return f"{score.kind} of block {score.index} of the {score.component} at {token}"


def trace_sentences(trace: Trace) -> tuple[str, ...]:
    """
    Describe a trace in sentences, the conclusion first.

    Returns:
        The state that recovers most, its module path, and the best cross-attention of a UNet. If
        the noise barely changes the score, a single sentence.
    """
    span = f"{trace.clean_score:.3f} to {trace.corrupted_score:.3f}"
    if not trace.is_degraded:
        return (
            f"noise on the subject barely changes the score ({span}): try a larger `--noise`; "
            "otherwise the model or the scorer does not know this concept",
        )
    best = trace.best()
    share = trace.share(best) or 0.0
    recovers = f"recovers {share:.0%} of the score lost to noise ({span})"
    details = (f"its module is {best.component} {best.module_path}", *_best_attention(trace))
    if share < _MIN_RECOVERED:
        first = f"no single state holds the concept: the best, {_state_words(best)}, {recovers}"
        return (first, *details)
    return (f"restoring {_state_words(best)} {recovers}", *details)


def _best_attention(trace: Trace) -> tuple[str, ...]:
    """Return a sentence on the cross-attention of the UNet that recovers most."""
    attentions = [score for score in trace.ranked() if score.kind == "cross-attention"]
    # a residual attention returns the whole stream, so restoring it also restores earlier layers
    if not attentions or registry.family(trace.model.family).has_residual_attention:
        return ()
    best = attentions[0]
    return (
        "among the cross-attention layers, which are the ones an edit changes, "
        f"layer {best.index} recovers the most: {trace.share(best) or 0.0:.0%} of the lost score "
        f"({best.module_path})",
    )


def render_trace_report(runs: Sequence[TraceRun], *, command: Sequence[str] = ()) -> str:
    """
    Render the page of one or more traces: heat maps, pictures and every score.

    Args:
        runs: Traces of one model, with their pictures.
        command: The command line that made them.
    """
    first = runs[0].trace
    names = join_words(dict.fromkeys(run.trace.concept.subject for run in runs))
    title = f"Which states of {first.model.name} carry {names}"
    return render_page(
        "trace.html",
        title=title,
        runs=runs,
        grids_of=_grids_of,
        state_words=_state_words,
        command=command,
    )


def render_trace_sheet(runs: Sequence[TraceRun]) -> bytes:
    """Render the pictures and heat maps of every concept below each other as one PNG."""
    parts: list[Image.Image] = []
    for run in runs:
        trace, concept = run.trace, run.trace.concept
        rows = [
            Row(strip.prompt, tuple(Cell(png, f"{name}  {s:.3f}") for name, png, s in strip.frames))
            for strip in run.strips
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


def _grid(title: str, trace: Trace, placed: Mapping[tuple[str, str], TraceScore]) -> _Grid:
    rows = tuple(dict.fromkeys(row for row, _ in placed))
    columns = tuple(dict.fromkeys(column for _, column in placed))
    if trace.component == UNET:
        columns = tuple(sorted(columns, key=int))
    top = max([trace.total_effect, *(abs(score.indirect_effect) for score in trace.scores)])
    best = trace.best()
    cells = tuple(
        tuple(
            _cell(trace, placed[row, column], top, best) if (row, column) in placed else None
            for column in columns
        )
        for row in rows
    )
    return _Grid(title, rows, columns, cells)


def _cell(trace: Trace, score: TraceScore, top: float, best: TraceScore) -> _Cell:
    effect = score.indirect_effect
    strength = min(abs(effect) / top, 1.0) if top > 0 else 0.0
    goal = _GAIN if effect > 0 else _LOSS
    red, green, blue = (
        round(a + (b - a) * strength) for a, b in zip(_NO_EFFECT, goal, strict=True)
    )
    title = (
        f"{_state_words(score)} ({score.module_path}): score {score.score:.3f} "
        f"± {score.stderr:.3f}, {effect:+.3f} ± {score.indirect_effect_stderr:.3f} "
        f"over corrupted, {percent(trace.share(score))} recovered"
    )
    share = trace.share(score)
    words = "" if share is None else f"{100 * share:.0f}"
    ink = _LIGHT_INK if strength > 0.6 else _DARK_INK
    return _Cell(title, "0" if words == "-0" else words, (red, green, blue), ink, score == best)


def _draw_grid(grid: _Grid) -> Image.Image:
    n_columns = len(grid.columns)
    side = _WIDE_CELL if n_columns <= _MAX_WIDE_COLUMNS else _NARROW_CELL
    font, bold = ImageFont.load_default(12), ImageFont.load_default(14)
    title = f"{grid.title}: percent of the lost score recovered"
    width = max(_LABEL_WIDTH + n_columns * side + GAP, round(bold.getlength(title)) + 2 * GAP)
    size = (width, TITLE_HEIGHT + (len(grid.rows) + 1) * _CELL_HEIGHT + GAP)
    image = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((GAP, GAP), title, INK, bold)
    for i, name in enumerate(grid.columns):
        words = name.replace(" subject", " subj.") if side == _WIDE_CELL else name
        draw.text((_LABEL_WIDTH + i * side + 2, TITLE_HEIGHT - 2), words, NOTE_INK, font)
    for j, (name, cells) in enumerate(zip(grid.rows, grid.cells, strict=True)):
        top = TITLE_HEIGHT + (j + 1) * _CELL_HEIGHT
        draw.text((GAP, top + 3), name, INK, font)
        for i, cell in enumerate(cells):
            if cell is not None:
                _draw_cell(draw, cell, (_LABEL_WIDTH + i * side, top), side)
    return image


def _draw_cell(
    draw: ImageDraw.ImageDraw, cell: _Cell, position: tuple[int, int], side: int
) -> None:
    left, top = position
    box = (left, top, left + side - 2, top + _CELL_HEIGHT - 2)
    draw.rectangle(box, cell.colour, MARK_INK if cell.is_best else None, 2 if cell.is_best else 0)
    draw.text((left + 4, top + 2), cell.words, cell.ink, ImageFont.load_default(11))
