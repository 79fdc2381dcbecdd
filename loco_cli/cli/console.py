"""
The only room that prints: results on stdout, the conversation on stderr.

Text that comes from elsewhere (recipes, file names, metadata) is escaped before it is printed,
so that no control character reaches the terminal.
"""

import json
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from unicodedata import category

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from loco_cli.errors import LocoError

if TYPE_CHECKING:
    from loco_cli.sampling.processes import Team

# control, format (bidirectional marks among them), surrogate, line and paragraph separator
_UNSAFE = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))


def safe(text: str) -> str:
    """Return `text` on one line, with what a terminal might obey written as an escape."""
    return "".join(
        letter.encode("unicode_escape").decode() if category(letter) in _UNSAFE else letter
        for letter in text
    )


def plain(text: object, style: str = "") -> Text:
    """Return foreign text as Rich may print it: escaped, and never read as markup."""
    return Text(safe(str(text)), style)


def table(*columns: str) -> Table:
    """Return an empty table in the house's look; fill it with `plain` cells."""
    return Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")


class Terminal:
    """
    The two streams of one command and how it was asked to use them.

    `team` are the processes that a launcher started; the others' streams go nowhere.

    The options `--json`, `--quiet` and `--debug` set the three flags before the command runs.
    """

    def __init__(self, team: "Team") -> None:
        self.team = team
        self.as_json = False
        self.is_quiet = False
        self.is_debug = False
        self.out = Console(highlight=False, markup=False, emoji=False)
        self.err = Console(highlight=False, markup=False, emoji=False, stderr=True)

    def show(self, document: Mapping[str, Any], *parts: RenderableType) -> None:
        """Print the result: with `--json` the document and nothing else, without it the parts."""
        if self.as_json:
            self.show_json(document)
            return
        for part in parts:
            self.out.print(part, soft_wrap=isinstance(part, str | Text))

    def show_json(self, document: Mapping[str, Any]) -> None:
        """Print a result that is JSON anyway; letters outside ASCII are escaped."""
        self.out.print(json.dumps(document, indent=2, allow_nan=False), soft_wrap=True)

    def show_text(self, document: Mapping[str, Any], text: str) -> None:
        """Print a result that is text of many lines, such as a recipe."""
        self.show(document, *(plain(line) for line in text.splitlines()))

    def say(self, text: str, style: str = "") -> None:
        """Say a sentence on stderr, unless `--quiet`."""
        if not self.is_quiet:
            self.err.print(plain(text, style), soft_wrap=True)

    def tell(self, *parts: RenderableType) -> None:
        """Show something on stderr on the way to the result, unless `--quiet`."""
        for part in () if self.is_quiet else parts:
            self.err.print(part, soft_wrap=isinstance(part, str | Text))

    def warn(self, *texts: str) -> None:
        """Say each warning on stderr, unless `--quiet`."""
        for text in () if self.is_quiet else texts:
            self._sentence("warning", "yellow", text)

    def fail(self, error: LocoError) -> None:
        """Print an error and its way out, which other processes are told as well."""
        self.team.report_error(error)
        self._trace(error)
        self._sentence("error", "bold red", error.message)
        if error.hint:
            self.err.print()
            self._sentence("hint", "bold cyan", error.hint)

    def fail_as_bug(self, error: Exception) -> None:
        """Print an error that nobody foresaw."""
        hint = "please report it, with what `--debug` prints"
        said = " ".join(str(error).split())
        self.fail(_Bug(f"this is a bug in loco: {type(error).__name__}: {said}", hint, error))

    def _sentence(self, label: str, style: str, text: str) -> None:
        self.err.print(Text.assemble((f"{label}:", style), " ", safe(text)), soft_wrap=True)

    def _trace(self, error: LocoError) -> None:
        if self.is_debug:
            cause = error.cause if isinstance(error, _Bug) else error
            for line in "".join(traceback.format_exception(cause)).splitlines():
                self.err.print(plain(line), soft_wrap=True)


class _Bug(LocoError):
    """An exception that no room raised on purpose."""

    def __init__(self, message: str, hint: str, cause: Exception) -> None:
        super().__init__(message, hint)
        self.cause = cause
