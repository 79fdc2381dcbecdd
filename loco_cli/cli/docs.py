"""`loco docs`: the manual, in the terminal."""

import re
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from loco_cli.cli.console import Terminal, plain, table
from loco_cli.cli.options import Debug, Json, Quiet

if TYPE_CHECKING:
    from loco_cli.commands.docs import Page

_WIDTH = 100  # columns of a page at most; longer lines are hard to read
_PICTURE = re.compile(r"!\[([^]]*)\]\([^)]*\)")


def page_names(incomplete: str) -> list[str]:
    """Return the pages that begin so, for the shell to complete."""
    from loco_cli.commands import docs as workflow

    return [page.name for page in workflow.list_pages() if page.name.startswith(incomplete)]


def docs(
    ctx: typer.Context,
    page: Annotated[
        str | None,
        typer.Argument(
            metavar="PAGE",
            autocompletion=page_names,
            help="The page to read; left out, the pages are listed.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """
    Read the manual: list its pages, or show one.

    In a pipe or a file a page is plain Markdown.

    Example: loco docs limits
    """
    from loco_cli.commands import docs as workflow

    terminal: Terminal = ctx.obj
    if page is None:
        pages = workflow.list_pages()
        terminal.show(workflow.pages_document(pages), _pages_table(pages))
        return
    shown = workflow.find_page(page)
    if terminal.as_json or not terminal.out.is_terminal:
        terminal.show_text(shown.to_json(), shown.text)
        return
    from rich.constrain import Constrain
    from rich.markdown import Markdown

    text = _PICTURE.sub(r"Picture: \1.", shown.text)  # a terminal shows its description instead
    # without hyperlinks a link prints the name of its page, which `loco docs` takes
    page_in_colour = Markdown(text, code_theme="ansi_dark", hyperlinks=False)
    terminal.show(shown.to_json(), Constrain(page_in_colour, _WIDTH))


def _pages_table(pages: "tuple[Page, ...]") -> Table:
    shown = table("page", "what it is about")
    shown.columns[0].no_wrap = True
    for one in pages:
        shown.add_row(plain(one.name), plain(one.summary))
    return shown
