"""`loco recipes`: list, show, create and check the recipes of the catalog."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loco_cli.errors import LocoError, MachineError, OutputExists, RequestError
from loco_cli.recipe import catalog
from loco_cli.recipe.catalog import CatalogEntry

if TYPE_CHECKING:
    from loco_cli.recipe.record import Recipe

_NAME = re.compile(r"[A-Za-z0-9][\w-]*")


@dataclass(frozen=True)
class ListedRecipe:
    """
    A row of the catalog: `ListedRecipe("remove_style", "shipped", "Remove ...", ("style",))`.

    If a recipe does not load, `problem` holds the message of the error.
    """

    name: str
    origin: str
    title: str | None = None
    kinds: tuple[str, ...] = ()
    model: str | None = None
    tags: tuple[str, ...] = ()
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as an entry of `loco.recipes/1`."""
        return {
            "name": self.name,
            "title": self.title,
            "kinds": list(self.kinds),
            "model": self.model,
            "tags": list(self.tags),
            "origin": self.origin,
            "problem": self.problem,
        }


def list_recipes() -> tuple[ListedRecipe, ...]:
    """Return all recipes of the catalog, including those that do not load."""
    return tuple(_listed(entry) for entry in catalog.entries())


def show_recipe(name: str) -> "Recipe":
    """Return the recipe called `name` in the catalog; raises UnknownName or RecipeError."""
    return catalog.find(name).load()


def check_recipe(argument: str, settings: Sequence[str] = ()) -> "Recipe":
    """Return a recipe with its `--set` overrides; raises RequestError if it is invalid."""
    from loco_cli.recipe.load import Override

    return catalog.read_recipe(argument, overrides=[Override.parse(text) for text in settings])


def new_recipe(name: str, output: Path | None = None, *, force: bool = False) -> Path:
    """
    Write a commented recipe to start from, and return its path.

    Args:
        name: The name of the recipe: letters, digits, `_` and `-`.
        output: The path to write to. Without it, the recipe goes to the user's catalog.
        force: Overwrite an existing file.

    Raises:
        RequestError: The name is invalid, or the folder of `output` does not exist.
        OutputExists: The name is taken, or the file exists.
        MachineError: The file cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise RequestError(
            f"`{name}` is not a valid recipe name",
            "use letters, digits, `_` and `-`, e.g. `remove_monet`",
        )
    path = output or catalog.user_folder() / f"{name}.yaml"
    taken = next((entry for entry in catalog.entries() if entry.name == name), None)
    if output is None and taken and not force:
        raise OutputExists(
            f"the catalog already has a recipe `{name}` ({taken.origin})",
            "choose another name, or pass `--force`",
        )
    if path.exists() and not force:
        raise OutputExists(f"`{path}` already exists", "pass `--force` to overwrite it")
    if output is None:
        path.parent.mkdir(parents=True, exist_ok=True)
    elif not path.parent.is_dir():
        raise RequestError(f"the folder `{path.parent}` does not exist", "create it first")
    from loco_cli.recipe.load import render_starter

    _write_file(path, render_starter(name, shlex.quote(str(output)) if output else name))
    return path


def recipes_document(recipes: Sequence[ListedRecipe]) -> dict[str, Any]:
    """Return the catalog as `loco.recipes/1`."""
    return {"schema": "loco.recipes/1", "recipes": [recipe.to_json() for recipe in recipes]}


def recipe_document(recipe: "Recipe") -> dict[str, Any]:
    """Return a recipe as `loco.recipe/1`: its text, and its values with defaults and overrides."""
    return {
        "schema": "loco.recipe/1",
        "name": recipe.name,
        "sha256": recipe.sha256,
        "text": recipe.text,
        "overrides": recipe.overrides,
        "recipe": recipe.document(),
    }


def _write_file(path: Path, text: str) -> None:
    from loco_cli.checkpoint.staging import replace_file

    try:
        replace_file(path, text.encode())
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise MachineError(f"cannot write `{path}`: {reason}") from None


def _listed(entry: CatalogEntry) -> ListedRecipe:
    """Return the row of a catalog entry."""
    try:
        # shipped recipes are valid, so they need no full load
        found = entry.read().values if entry.origin == "shipped" else entry.load().document()
    except LocoError as error:
        return ListedRecipe(entry.name, entry.origin, problem=error.message)
    return ListedRecipe(
        entry.name,
        entry.origin,
        found.get("title"),
        tuple(dict.fromkeys(edit["kind"] for edit in found["edits"])),
        found["model"],
        tuple(found.get("tags", ())),
    )
