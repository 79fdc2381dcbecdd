"""`loco docs`: the manual, in the terminal."""

import re
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from loco_cli.cli.console import Terminal, plain, table
from loco_cli.cli.options import Debug, Json, Quiet

if TYPE_CHECKING:
    from loco_cli.commands.docs import Page

_MAX_PAGE_COLUMNS = 100  # longer lines are hard to read
_PICTURE = re.compile(r"!\[([^]]*)\]\([^)]*\)")


def page_names(incomplete: str) -> list[str]:
    """Return the page names that start with `incomplete`, for shell completion."""
    from loco_cli.commands import docs as command

    return [page.name for page in command.list_pages() if page.name.startswith(incomplete)]


def docs(
    ctx: typer.Context,
    page: Annotated[
        str | None,
        typer.Argument(
            metavar="PAGE",
            autocompletion=page_names,
            help="The page to show. Without it, the pages are listed.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """
    List the pages of the manual, or show one page.

    If stdout is a pipe or a file, the page is written as Markdown.

    Example: loco docs limits
    """
    from loco_cli.commands import docs as command

    terminal: Terminal = ctx.obj
    if page is None:
        pages = command.list_pages()
        terminal.show(command.pages_document(pages), _pages_table(pages))
        return
    shown = command.find_page(page)
    if terminal.as_json or not terminal.out.is_terminal:
        terminal.show_text(shown.to_json(), shown.text)
        return
    from rich.constrain import Constrain
    from rich.markdown import Markdown

    text = _PICTURE.sub(r"Picture: \1.", shown.text)  # terminals show the alt text instead
    # with hyperlinks off, each link prints its page name, which `loco docs` accepts
    rendered = Markdown(text, code_theme="ansi_dark", hyperlinks=False)
    terminal.show(shown.to_json(), Constrain(rendered, _MAX_PAGE_COLUMNS))


def _pages_table(pages: "tuple[Page, ...]") -> Table:
    shown = table("page", "summary")
    shown.columns[0].no_wrap = True
    for one in pages:
        shown.add_row(plain(one.name), plain(one.summary))
    return shown
