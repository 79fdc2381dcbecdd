"""The contact sheets of localizations and evaluations."""

import io
from dataclasses import replace

from PIL import Image

from loco_cli.evaluation import BeforeAfter
from loco_cli.localization import SwapPicture
from loco_cli.report.sheet import (
    MARK_INK,
    MAX_COLUMNS,
    Cell,
    Row,
    _evaluation_rows,
    _figures_line,
    _localization_rows,
    render_sheet,
)


def opened(png):
    return Image.open(io.BytesIO(png), formats=["PNG"]).convert("RGB")


def test_a_localization_is_a_row_per_prompt(swept, png):
    """A row has the original, the windows of the chosen width and the full swap; one is marked."""
    sweep = swept()
    single = SwapPicture("a cat by monet", "a painting", 0, (0,), 0.3, png())

    (row,) = _localization_rows(replace(sweep, pictures=(single, *sweep.pictures)))

    names = [cell.words.split()[0] for cell in row.cells]
    assert names == ["original", "0-1", "1-2", "2-3", "all"]
    assert [cell.is_marked for cell in row.cells] == [False, False, True, False, False]
    assert {cell.png for cell in row.cells} == {picture.png for picture in sweep.pictures}
    assert "a cat by monet" in row.label


def test_a_long_row_is_split(swept, png):
    """A model with many layers has several rows per prompt, without losing a picture."""
    sweep = swept()
    layers = [(), *((i, i + 1) for i in range(30)), tuple(range(31))]
    pictures = tuple(SwapPicture("p", "t", 0, each, 0.3, png()) for each in layers)

    rows = _localization_rows(replace(sweep, pictures=pictures))

    assert [len(row.cells) for row in rows] == [MAX_COLUMNS, 32 - MAX_COLUMNS]
    assert rows[1].label == ""


def test_an_evaluation_alternates_before_and_after(judged):
    """The row of a prompt has the pictures before and after for each seed, and marks failures."""
    evaluation, pairs = judged()

    rows = _evaluation_rows(evaluation, pairs)

    assert [row.note for row in rows] == ["to forget"] * 2 + ["to keep"] * 2
    assert [cell.png for cell in rows[0].cells] == [
        png for pair in pairs[:2] for png in (pair.before, pair.after)
    ]
    assert [cell.is_marked for cell in rows[0].cells] == [False, False, False, True]
    assert _figures_line(evaluation) == "forgotten 66.7%, became 66.7%, kept 50%"


def test_a_sheet_holds_every_picture(png):
    """The sheet contains every picture of every row, and a frame for marked ones."""
    pictures = [png(8) for _ in range(5)]
    rows = [
        Row("one", tuple(Cell(picture) for picture in pictures[:3])),
        Row("two", (Cell(pictures[3]), Cell(pictures[4], "chosen", is_marked=True)), group=2),
    ]

    sheet = opened(render_sheet("title", rows, side=16))
    found = {colour for _, colour in sheet.getcolors(1 << 24)}

    assert {opened(picture).getpixel((0, 0)) for picture in pictures} <= found
    assert MARK_INK in found


def test_a_sheet_takes_any_words_and_shapes(png):
    """Long words, unknown letters, empty rows, missing pictures and wide pictures are all drawn."""
    wide = io.BytesIO()
    Image.new("RGB", (40, 10), "red").save(wide, "PNG")
    cell = Cell(wide.getvalue(), "w" * 99)

    opened(render_sheet("", []))
    opened(render_sheet("t" * 999, [Row("", ())]))
    sheet = opened(render_sheet("猫\n<b>", [Row("猫" * 99 + "\n" + "many words " * 99, (cell,))]))

    assert sheet.height > 500  # the row grows with its label


def test_a_pair_has_a_verdict():
    """A picture counts only if the base draws it correctly; then its verdict is good or bad."""

    def verdict(group, *flags, **more):
        pair = BeforeAfter(group, "p", 0, b"", b"", 0.3, 0.1, *flags, **more)
        return pair.verdict, pair.is_success

    assert verdict("forget", True, False, True) == ("became target", True)
    assert verdict("forget", True, False, False) == ("forgotten", True)
    assert verdict("forget", True, False, False, is_fact=True) == ("something else", False)
    assert verdict("forget", True, True, False) == ("still there", False)
    assert verdict("forget", False, False, True) == ("not counted", None)
    assert verdict("keep", True, True) == ("kept", True)
    assert verdict("keep", True, False) == ("lost", False)
    assert verdict("keep") == ("", None)
