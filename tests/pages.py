"""The README, the pages of the manual, and their code blocks."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
MANUAL = tuple(sorted((ROOT / "loco_cli" / "docs").glob("*.md")))
PAGES = (README, *MANUAL)

_BLOCK = re.compile(
    r"(?:^<!-- (?P<kind>run|file): (?P<mark>[\w.-]+) -->\n)?"
    r"^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """
    A fenced block: `Block("bash", "loco docs\\n", run="after")`.

    The comment above a block sets `run`, the mark of a command block, or `file`, the name of a file
    that commands of the page read.
    """

    language: str
    code: str
    run: str = ""
    file: str = ""


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page; commands without a mark run after the demo."""
    for match in _BLOCK.finditer(page.read_text("utf-8")):
        language, code = match["language"], match["code"]
        if language != "bash":
            yield Block(language, code, file=match["mark"] or "")
        else:
            yield Block(language, code, run=match["mark"] or "after")


def commands_of(page: Path, mark: str) -> list[str]:
    """Return the command blocks of a page with a mark, in order."""
    return [block.code for block in blocks_of(page) if block.run == mark]


def files_of(page: Path) -> dict[str, str]:
    """Return the files that the commands of a page read, by name."""
    return {block.file: block.code for block in blocks_of(page) if block.file}


def prose_of(text: str) -> str:
    """Return Markdown without code, tables, headings, comments, pictures and addresses."""
    text = re.sub(r"^```.*?^```$", "\n", text, flags=re.M | re.S)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r"!\[.*?\]\(.*?\)", "", text)
    text = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", text)
    text = re.sub(r"`([^`]*)`", lambda code: re.sub(r"[.!?:](?=\s)", "", code[1]), text)
    lines = (line for line in text.splitlines() if not re.match(r"\s*(\||#)", line))
    return "\n".join(re.sub(r"^\s*(?:[-*]|\d+\.) ", "", line) for line in lines)


def sentences_of(text: str) -> list[str]:
    """Split Markdown into sentences, which end with a full stop, a colon or a line."""
    parts = re.split(r"(?<=[.!?:])\s+|\n+", prose_of(text))
    return [part.strip() for part in parts if re.search(r"\w", part)]
