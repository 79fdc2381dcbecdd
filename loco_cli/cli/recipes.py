"""`loco recipes`: the catalog of shipped recipes and the user's own."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from loco_cli.cli.console import Terminal, plain, table
from loco_cli.cli.options import (
    Debug,
    Force,
    Json,
    Output,
    Quiet,
    RecipeArgument,
    Set,
    recipe_names,
)
from loco_cli.cli.usage import Command, CommandGroup

if TYPE_CHECKING:
    from loco_cli.commands.recipes import ListedRecipe

app = typer.Typer(
    cls=CommandGroup,
    help="List, show, create and check recipes: those that ship and your own.",
    no_args_is_help=True,
)

_Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        autocompletion=recipe_names,
        help="A catalog name.",
        show_default=False,
    ),
]


@app.command("list", cls=Command)
def list_recipes(
    ctx: typer.Context, as_json: Json = False, quiet: Quiet = False, debug: Debug = False
) -> None:
    """
    List the recipes of the catalog.

    Example: loco recipes list
    """
    from loco_cli.commands import recipes as command

    terminal: Terminal = ctx.obj
    listed = command.list_recipes()
    terminal.show(command.recipes_document(listed), _catalog_table(listed))


@app.command("show", cls=Command)
def show_recipe(
    ctx: typer.Context,
    name: _Name,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """
    Print the file of a recipe in the catalog.

    Example: loco recipes show remove_style > my_style.yaml
    """
    from loco_cli.commands import recipes as command

    terminal: Terminal = ctx.obj
    recipe = command.show_recipe(name)
    terminal.show_text(command.recipe_document(recipe), recipe.text)


@app.command("new", cls=Command)
def new_recipe(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The name of the new recipe.", show_default=False)
    ],
    output: Output = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """
    Create a commented recipe in your catalog, or at --output.

    Example: loco recipes new remove_monet
    """
    from loco_cli.commands import recipes as command

    terminal: Terminal = ctx.obj
    path = command.new_recipe(name, output, force=force)
    terminal.show({"schema": "loco.recipe-file/1", "path": path.name}, plain(path))


@app.command("check", cls=Command)
def check_recipe(
    ctx: typer.Context,
    recipe: RecipeArgument,
    settings: Set = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """
    Check a recipe, and print it with all defaults.

    Example: loco recipes check remove_style --set subject=monet
    """
    from loco_cli.commands import recipes as command
    from loco_cli.recipe.load import render_recipe

    terminal: Terminal = ctx.obj
    checked = command.check_recipe(recipe, settings or ())
    terminal.show_text(command.recipe_document(checked), render_recipe(checked))


@app.command("schema", cls=Command)
def show_schema(
    ctx: typer.Context, as_json: Json = False, quiet: Quiet = False, debug: Debug = False
) -> None:
    """
    Print the JSON schema of recipes, for editors that validate YAML.

    Example: loco recipes schema > recipe.schema.json
    """
    from loco_cli.recipe.load import recipe_schema

    terminal: Terminal = ctx.obj
    terminal.show_json(recipe_schema())


def _catalog_table(listed: "tuple[ListedRecipe, ...]") -> Table:
    found = table("name", "kinds", "model", "title")
    # names stay on one line, so that they can be copied
    found.columns[0].no_wrap, found.columns[0].overflow = True, "fold"
    found.columns[0].min_width = max((len(one.name) + 2 for one in listed), default=0)
    for one in listed:
        style = "red" if one.problem else ""
        found.add_row(
            plain(f"{one.name} *" if one.origin == "yours" else one.name, style),
            plain(", ".join(one.kinds)),
            plain(one.model or ""),
            plain(one.problem or one.title or "", style),
        )
    if any(one.origin == "yours" for one in listed):
        found.caption = "* your own"
        found.caption_justify = "left"
    return found
