"""
Contact sheets: labelled rows of pictures in one PNG.

The pages show pictures in the same order: window by window, prompt by prompt.
"""

import io
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from PIL import Image, ImageDraw, ImageFont, ImageOps

from loco_cli.evaluation import BeforeAfter, Evaluation, ForgetRow, KeepRow
from loco_cli.localization import LocalizationRun
from loco_cli.report.sentences import layer_span, percent

PICTURE_SIDE = 128  # pixels; twice the pictures of `tiny`
GAP, _GROUP_GAP, _LABEL_WIDTH, _LINE_HEIGHT, TITLE_HEIGHT = 8, 14, 210, 16, 44  # pixels
INK, NOTE_INK, PAPER, MARK_INK = (24, 24, 28), (104, 104, 112), (255, 255, 255), (214, 92, 20)
MAX_COLUMNS = 18  # pictures per row; a longer row continues on the next

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_Means = TypeVar("_Means", ForgetRow, KeepRow)


@dataclass(frozen=True)
class Cell:
    """A picture as PNG bytes, with the words below it; a marked one gets a frame."""

    png: bytes = field(repr=False)
    words: str = ""
    is_marked: bool = False


@dataclass(frozen=True)
class Row:
    """A label with a note above it, and its pictures in groups of `group`."""

    label: str
    cells: tuple[Cell, ...]
    note: str = ""
    group: int = 1


@dataclass(frozen=True)
class _Frame:
    """A picture of a strip with its caption: `_Frame("8–9", (8, 9), 0.12, True, png)`."""

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
    frames: tuple[_Frame, ...]
    seed: int


@dataclass(frozen=True)
class _JudgedPrompt(Generic[_Means]):
    """One prompt of an evaluation: its mean scores, and its pictures before and after."""

    row: _Means
    pairs: tuple[BeforeAfter, ...]


def swap_strips(run: LocalizationRun) -> tuple[Strip, ...]:
    """Return one strip per prompt pair, in the order of the pictures, narrow candidates first."""
    chosen = run.localization.layer_set
    all_layers = max((picture.layers for picture in run.pictures), key=len, default=())
    frames: defaultdict[tuple[str, str], list[_Frame]] = defaultdict(list)
    for picture in sorted(run.pictures, key=lambda p: (len(p.layers), p.layers)):
        is_full = bool(picture.layers) and picture.layers == all_layers
        frames[picture.source, picture.target].append(
            _Frame(
                name="all" if is_full else layer_span(picture.layers),
                layers=picture.layers,
                score=picture.score,
                is_chosen=picture.layers == chosen,
                png=picture.png,
            )
        )
    seeds = {(p.source, p.target): p.seed for p in run.pictures}
    return tuple(Strip(*pair, tuple(frames[pair]), seed) for pair, seed in seeds.items())


def _of_chosen_width(strip: Strip, width: int) -> Strip:
    """Return a strip with the original, the candidates of one width, and all layers swapped."""
    ends = (strip.frames[0], strip.frames[-1])
    frames = (frame for frame in strip.frames if frame in ends or len(frame.layers) == width)
    return Strip(strip.source, strip.target, tuple(frames), strip.seed)


def group_pairs(
    evaluation: Evaluation, pairs: Iterable[BeforeAfter]
) -> tuple[tuple[_JudgedPrompt[ForgetRow], ...], tuple[_JudgedPrompt[KeepRow], ...]]:
    """Group the pictures of an evaluation by prompt: those to forget, then those to keep."""
    waiting: defaultdict[tuple[str, str], list[BeforeAfter]] = defaultdict(list)
    for pair in pairs:
        waiting[pair.group, pair.prompt].append(pair)
    n = len(evaluation.seeds)

    def take(group: str, row: _Means) -> _JudgedPrompt[_Means]:
        # two edits may ask the same prompt: each row takes one picture per seed
        queue = waiting[group, row.prompt]
        waiting[group, row.prompt] = queue[n:]
        return _JudgedPrompt(row, tuple(queue[:n]))

    forget = tuple(take("forget", row) for row in evaluation.forget)
    return forget, tuple(take("keep", row) for row in evaluation.keep)


def render_localization_sheet(runs: Sequence[LocalizationRun]) -> bytes:
    """Render the windows of every concept as one PNG."""
    rows = [row for run in runs for row in _localization_rows(run)]
    concepts = ", ".join(map(_concept_words, runs))
    return render_sheet(f"{concepts} in {runs[0].localization.model.name}", rows)


def render_evaluation_sheet(evaluation: Evaluation, pairs: Iterable[BeforeAfter]) -> bytes:
    """Render the pictures of every prompt before and after an edit as one PNG."""
    return render_sheet(_figures_line(evaluation), _evaluation_rows(evaluation, pairs))


def _concept_words(run: LocalizationRun) -> str:
    return f"{run.localization.concept.kind} {run.localization.concept.subject}"


def _localization_rows(run: LocalizationRun) -> list[Row]:
    """Return a row per prompt pair: the original, each window of the chosen width, all layers."""
    width = len(run.localization.layer_set)
    rows = []
    for strip in swap_strips(run):
        cells = tuple(map(_window_cell, _of_chosen_width(strip, width).frames))
        for start in range(0, len(cells), MAX_COLUMNS):
            label, note = ("", "") if start else (_label(strip), _concept_words(run))
            rows.append(Row(label, cells[start : start + MAX_COLUMNS], note))
    return rows


def _evaluation_rows(evaluation: Evaluation, pairs: Iterable[BeforeAfter]) -> list[Row]:
    """Return a row per prompt, with the pictures before and after for each seed."""
    forget, keep = group_pairs(evaluation, pairs)
    rows = [_judged_row(prompt, "to forget") for prompt in forget]
    return rows + [_judged_row(prompt, "to keep") for prompt in keep]


def _figures_line(evaluation: Evaluation) -> str:
    """Return the figures of an evaluation in one line, as the title of a sheet."""
    return ", ".join(f"{name} {percent(figure)}" for name, figure in evaluation.figures.items())


def render_sheet(title: str, rows: Sequence[Row], *, side: int = PICTURE_SIDE) -> bytes:
    """
    Render rows of pictures under a title as one PNG.

    Args:
        title: The title; it is truncated if it does not fit.
        rows: Labels and pictures.
        side: Largest width and height of a picture in pixels.
    """
    fonts = _Fonts()
    heights = [_height(row, side, fonts) for row in rows]
    title_width = round(fonts.title.getlength(title)) + 2 * GAP
    width = max(min(title_width, 1200), *(_width(row, side) for row in rows), _LABEL_WIDTH)
    sheet = Image.new("RGB", (width, TITLE_HEIGHT + sum(heights) + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP + 2), _truncated(title, fonts.title, width - 2 * GAP), INK, fonts.title)
    top = TITLE_HEIGHT
    for row, height in zip(rows, heights, strict=True):
        _draw_label(draw, row, top, fonts)
        for left, cell in _cell_positions(row, side):
            _draw_cell(sheet, draw, cell, (left, top), side, fonts.small)
        top += height
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


class _Fonts:
    def __init__(self) -> None:
        self.small, self.title = ImageFont.load_default(12), ImageFont.load_default(18)


def _window_cell(frame: _Frame) -> Cell:
    name = frame.name.replace("–", "-")  # the font has no en dash
    return Cell(frame.png, f"{name}  {frame.score:.3f}", frame.is_chosen)


def _judged_row(prompt: _JudgedPrompt[ForgetRow] | _JudgedPrompt[KeepRow], note: str) -> Row:
    cells: list[Cell] = []
    for pair in prompt.pairs:
        verdict = f"  {pair.verdict}" if pair.verdict else ""
        cells.append(Cell(pair.before, f"before {pair.score_before:.2f}"))
        # a mark draws attention to the failures
        cells.append(Cell(pair.after, f"{pair.score_after:.2f}{verdict}", pair.is_success is False))
    return Row(prompt.row.prompt, tuple(cells), note, group=2)


def _label(strip: Strip) -> str:
    return f"{strip.source}\nwith: {strip.target}"


def _cell_positions(row: Row, side: int) -> Iterator[tuple[int, Cell]]:
    between = _GROUP_GAP if row.group > 1 else 0
    for i, cell in enumerate(row.cells):
        yield _LABEL_WIDTH + i * (side + GAP) + i // row.group * between, cell


def _width(row: Row, side: int) -> int:
    return (
        max((left for left, _ in _cell_positions(row, side)), default=_LABEL_WIDTH - side)
        + side
        + GAP
    )


def _height(row: Row, side: int, fonts: _Fonts) -> int:
    lines = len(_wrapped(row.label, fonts.small)) + bool(row.note)
    return max(side + _LINE_HEIGHT, lines * _LINE_HEIGHT) + GAP + 4


def _draw_label(draw: ImageDraw.ImageDraw, row: Row, top: int, fonts: _Fonts) -> None:
    if row.note:
        note = _truncated(row.note, fonts.small, _LABEL_WIDTH - 2 * GAP)
        draw.text((GAP, top), note, NOTE_INK, fonts.small)
        top += _LINE_HEIGHT
    for i, line in enumerate(_wrapped(row.label, fonts.small)):
        draw.text((GAP, top + i * _LINE_HEIGHT), line, INK, fonts.small)


def _draw_cell(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    cell: Cell,
    position: tuple[int, int],
    side: int,
    font: _Font,
) -> None:
    left, top = position
    image = ImageOps.contain(
        Image.open(io.BytesIO(cell.png)).convert("RGB"), (side, side), Image.Resampling.LANCZOS
    )
    sheet.paste(image, position)
    if cell.is_marked:
        edges = (left - 3, top - 3, left + image.width + 2, top + image.height + 2)
        draw.rectangle(edges, outline=MARK_INK, width=3)
    ink = MARK_INK if cell.is_marked else NOTE_INK
    draw.text((left, top + side + 3), _truncated(cell.words, font, side), ink, font)


def _wrapped(text: str, font: _Font, width: int = _LABEL_WIDTH - 2 * GAP) -> list[str]:
    lines: list[str] = []
    for part in text.split("\n"):
        lines.append("")
        for word in part.split():
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and font.getlength(longer) > width:
                lines.append(_truncated(word, font, width))
            else:
                lines[-1] = _truncated(longer, font, width)
    return lines


def _truncated(text: str, font: _Font, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    fitting = bisect_right(
        range(len(text)), float(width), key=lambda n: font.getlength(f"{text[:n]}…")
    )
    return f"{text[: max(fitting - 1, 0)]}…"
