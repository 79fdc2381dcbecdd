"""
The terminal: results on stdout, and progress, warnings and errors on stderr.

No other module prints. Text from recipes, file names and metadata is escaped first, so no control
character reaches the terminal.
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

# Unicode categories: control, format (with bidirectional marks), surrogate, line and paragraph
# separator
_UNSAFE_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))


def safe(text: str) -> str:
    """Return `text` on one line, with control characters and separators escaped."""
    return "".join(
        letter.encode("unicode_escape").decode()
        if category(letter) in _UNSAFE_CATEGORIES
        else letter
        for letter in text
    )


def plain(text: object, style: str = "") -> Text:
    """Return untrusted text for Rich: escaped, and never parsed as markup."""
    return Text(safe(str(text)), style)


def table(*columns: str) -> Table:
    """Return an empty table in the style of `loco`; fill it with `plain` cells."""
    return Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")


class Terminal:
    """
    The stdout and stderr of one command.

    `--json`, `--quiet` and `--debug` set the three flags before the command runs.

    Args:
        team: The processes that a launcher started. Only the first of them prints.
    """

    def __init__(self, team: "Team") -> None:
        self.team = team
        self.as_json = False
        self.is_quiet = False
        self.is_debug = False
        self.out = Console(highlight=False, markup=False, emoji=False)
        self.err = Console(highlight=False, markup=False, emoji=False, stderr=True)

    def show(self, document: Mapping[str, Any], *parts: RenderableType) -> None:
        """Print the result: `document` with `--json`, otherwise the parts."""
        if self.as_json:
            self.show_json(document)
            return
        for part in parts:
            self.out.print(part, soft_wrap=isinstance(part, str | Text))

    def show_json(self, document: Mapping[str, Any]) -> None:
        """Print a document as JSON, with non-ASCII letters escaped."""
        self.out.print(json.dumps(document, indent=2, allow_nan=False), soft_wrap=True)

    def show_text(self, document: Mapping[str, Any], text: str) -> None:
        """Print a result of several lines of text, such as a recipe."""
        self.show(document, *(plain(line) for line in text.splitlines()))

    def note(self, *parts: str | RenderableType) -> None:
        """Print text or tables to stderr before or after the result, unless `--quiet`."""
        for part in () if self.is_quiet else parts:
            shown = plain(part) if isinstance(part, str) else part
            self.err.print(shown, soft_wrap=isinstance(shown, Text))

    def warn(self, *texts: str) -> None:
        """Print each warning to stderr, unless `--quiet`."""
        for text in () if self.is_quiet else texts:
            self._print_labelled("warning", "yellow", text)

    def fail(self, error: LocoError) -> None:
        """Print an error and its hint, and report it to the other processes of the team."""
        self.team.report_error(error)
        self._print_traceback(error)
        self._print_labelled("error", "bold red", error.message)
        if error.hint:
            self.err.print()
            self._print_labelled("hint", "bold cyan", error.hint)

    def fail_as_bug(self, error: Exception) -> None:
        """Print an unexpected exception as a bug in `loco`."""
        hint = "please report it and include the output of `--debug`"
        reason = " ".join(str(error).split())
        self.fail(_Bug(f"this is a bug in loco: {type(error).__name__}: {reason}", hint, error))

    def _print_labelled(self, label: str, style: str, text: str) -> None:
        self.err.print(Text.assemble((f"{label}:", style), " ", safe(text)), soft_wrap=True)

    def _print_traceback(self, error: LocoError) -> None:
        if self.is_debug:
            cause = error.cause if isinstance(error, _Bug) else error
            for line in "".join(traceback.format_exception(cause)).splitlines():
                self.err.print(plain(line), soft_wrap=True)


class _Bug(LocoError):
    """An unexpected exception, printed like any other error."""

    def __init__(self, message: str, hint: str, cause: Exception) -> None:
        super().__init__(message, hint)
        self.cause = cause
