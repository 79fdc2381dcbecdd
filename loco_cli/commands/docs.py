"""`loco docs`: the pages of the manual, Markdown files in the package."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loco_cli.errors import UnknownName

_FOLDER = Path(__file__).parents[1] / "docs"
_SUFFIX = ".md"
_READING_ORDER = (  # other pages follow in alphabetical order
    "tutorial",
    "recipes",
    "how-it-works",
    "limits",
    "benchmarks",
    "formats",
    "commands",
    "troubleshooting",
)


@dataclass(frozen=True)
class Page:
    """
    A page of the manual: `find_page("limits")`.

    Its first two lines of text are `title` and `summary`.
    """

    name: str
    title: str
    summary: str
    text: str

    def to_json(self) -> dict[str, Any]:
        """Return the page as `loco.page/1`."""
        return {
            "schema": "loco.page/1",
            "name": self.name,
            "title": self.title,
            "summary": self.summary,
            "text": self.text,
        }


def list_pages() -> tuple[Page, ...]:
    """Return every page, in reading order."""
    paths = sorted(_FOLDER.glob(f"*{_SUFFIX}"), key=lambda path: (_position(path.stem), path.stem))
    return tuple(_read(path) for path in paths)


def find_page(name: str) -> Page:
    """
    Return the page called `name`, with or without `.md`.

    Raises:
        UnknownName: No page has this name; the hint lists all pages.
    """
    pages = {page.name: page for page in list_pages()}
    wanted = name.removesuffix(_SUFFIX)
    if wanted not in pages:
        raise UnknownName(f"unknown page `{name}`", f"choose one of {', '.join(pages)}")
    return pages[wanted]


def pages_document(pages: Sequence[Page]) -> dict[str, Any]:
    """Return the pages, without their text, as `loco.pages/1`."""
    listed = [{"name": one.name, "title": one.title, "summary": one.summary} for one in pages]
    return {"schema": "loco.pages/1", "pages": listed}


def _position(name: str) -> int:
    return _READING_ORDER.index(name) if name in _READING_ORDER else len(_READING_ORDER)


def _read(path: Path) -> Page:
    text = path.read_text(encoding="utf-8")
    title, summary, *_ = (line for line in text.splitlines() if line)
    return Page(path.stem, title.removeprefix("# "), summary, text)
