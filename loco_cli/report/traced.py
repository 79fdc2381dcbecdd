"""The sheet of a trace: its heat map, and pictures of clean, corrupted and best restored runs."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw, ImageFont

from loco_cli.report.heat import Cell as HeatCell
from loco_cli.report.heat import Grid, grids_of, state_words
from loco_cli.report.sheet import GAP, HEAD, INK, MARK, PAPER, QUIET, Cell, Row, render_sheet
from loco_cli.trace import Trace

LABELS, WIDE, NARROW, TALL = 130, 74, 26, 20  # pixels: row labels, cells, their height
FEW = 16  # columns that are given their words; more of them get their number


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
class Traced:
    """A trace with the pictures that only its workflow has."""

    trace: Trace
    strips: tuple[TracedStrip, ...] = ()

    @property
    def grids(self) -> tuple[Grid, ...]:
        """The heat map."""
        return grids_of(self.trace)

    @property
    def best_words(self) -> str:
        """The state that restores most, in words."""
        return state_words(self.trace.best())


def render_trace_sheet(traced: Sequence[Traced]) -> bytes:
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
        parts += [_draw_grid(grid) for grid in one.grids]
    width, height = max(part.width for part in parts), sum(part.height for part in parts)
    sheet = Image.new("RGB", (width, height), PAPER)
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _draw_grid(grid: Grid) -> Image.Image:
    n_columns = len(grid.columns)
    side = WIDE if n_columns <= FEW else NARROW
    font, bold = ImageFont.load_default(12), ImageFont.load_default(14)
    title = f"{grid.title}: percent of what the noise took"
    width = max(LABELS + n_columns * side + GAP, round(bold.getlength(title)) + 2 * GAP)
    size = (width, HEAD + (len(grid.rows) + 1) * TALL + GAP)
    image = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((GAP, GAP), title, INK, bold)
    for i, name in enumerate(grid.columns):
        words = name.replace(" subject", " subj.") if side == WIDE else name
        draw.text((LABELS + i * side + 2, HEAD - 2), words, QUIET, font)
    for j, (name, cells) in enumerate(zip(grid.rows, grid.cells, strict=True)):
        top = HEAD + (j + 1) * TALL
        draw.text((GAP, top + 3), name, INK, font)
        for i, cell in enumerate(cells):
            if cell is not None:
                _draw_cell(draw, cell, (LABELS + i * side, top), side)
    return image


def _draw_cell(
    draw: ImageDraw.ImageDraw, cell: HeatCell, place: tuple[int, int], side: int
) -> None:
    left, top = place
    box = (left, top, left + side - 2, top + TALL - 2)
    draw.rectangle(box, cell.colour, MARK if cell.is_best else None, 2 if cell.is_best else 0)
    draw.text((left + 4, top + 2), cell.words, cell.ink, ImageFont.load_default(11))
