"""
The catalog of shipped recipes and of the user's own.

The argument RECIPE or CONCEPT of a command is an existing file, a catalog name, or text, in this
order. A recipe of the user hides a shipped recipe of the same name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import platformdirs

from loco_cli.errors import RecipeError, UnknownName
from loco_cli.recipe.tree import MAX_BYTES, Tree, read_tree

if TYPE_CHECKING:  # importing records takes a tenth of a second, and a list of names needs none
    from loco_cli.concept import ConceptKind
    from loco_cli.recipe.load import Override
    from loco_cli.recipe.record import Recipe

_Origin = Literal["shipped", "yours"]
_SUFFIXES = (".yaml", ".yml")
_LIST_HINT = "`loco recipes list` shows the catalog"


@dataclass(frozen=True)
class CatalogEntry:
    """A recipe of the catalog: `CatalogEntry("remove_style", Path(...), "shipped")`."""

    name: str
    path: Path
    origin: _Origin

    def read(self) -> Tree:
        """Return the tree of the file without validation; raises RecipeError."""
        return read_tree(_read_text(self.path), str(self.path))

    def load(self, overrides: "Sequence[Override]" = ()) -> "Recipe":
        """Return the recipe; raises RecipeError."""
        from loco_cli.recipe.load import load_recipe

        return load_recipe(_read_text(self.path), str(self.path), overrides, name=self.name)


def _shipped_folder() -> Path:
    """Return the folder of shipped recipes: in the package, or next to it in a source checkout."""
    package = Path(__file__).parents[1]
    installed = package / "_recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def user_folder() -> Path:
    """Return the folder of the user's own recipes; it may not exist."""
    return platformdirs.user_config_path("loco", appauthor=False) / "recipes"


def entries() -> tuple[CatalogEntry, ...]:
    """Return the catalog, sorted by name."""
    found: dict[str, CatalogEntry] = {}
    folders: dict[_Origin, Path] = {"shipped": _shipped_folder(), "yours": user_folder()}
    for origin, folder in folders.items():
        for path in sorted(folder.glob("*")) if folder.is_dir() else ():
            if path.suffix in _SUFFIXES and path.is_file():
                found[path.stem] = CatalogEntry(path.stem, path, origin)
    return tuple(found[name] for name in sorted(found))


def find(name: str) -> CatalogEntry:
    """
    Return the catalog entry with this name.

    Raises:
        UnknownName: The catalog lacks the name; the hint has the closest one.
    """
    known = {entry.name: entry for entry in entries()}
    if name in known:
        return known[name]
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean `{close[0]}`?" if close else _LIST_HINT
    raise UnknownName(f"unknown recipe `{name}`", hint)


def _read_text(path: Path) -> str:
    """Return the text of a recipe file with its own line ends; raises RecipeError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise RecipeError(f"recipe `{path}` is not text in UTF-8") from None
    except OSError as error:
        raise RecipeError(f"recipe `{path}` cannot be read: {_reason(error)}") from None


def read_recipe(
    argument: str,
    *,
    kind: "ConceptKind | None" = None,
    to: str | None = None,
    sources: Sequence[str] = (),
    targets: Sequence[str] = (),
    overrides: "Sequence[Override]" = (),
) -> "Recipe":
    """
    Return the recipe of an argument: an existing path, a catalog name, or text.

    Args:
        argument: The argument of the command.
        kind: The kind of the concept. For a file it overrides the kind of its single edit; so do
            the next three arguments.
        to: The target of the concept.
        sources: Source templates with `{subject}`.
        targets: Target templates with `{to}`.
        overrides: Keys that the command line sets.

    Raises:
        RecipeError: The recipe is invalid or cannot be read.
        ConceptError: The text is not a valid concept.
        UnknownName: The argument looks like a catalog name, but the catalog lacks it.

    Example:
        `read_recipe("van gogh style", to="painting")`
    """
    from loco_cli.recipe.load import Override, load_recipe, recipe_from_text

    path = Path(argument)
    options = {
        "--kind": ("kind", kind),
        "--to": ("to", to),
        "--prompt": ("source", tuple(sources) or None),
        "--target": ("target", tuple(targets) or None),
    }
    changes = (*Override.of_options(options), *overrides)
    if _is_file(path):
        return load_recipe(_read_text(path), argument, changes)
    entry = next((entry for entry in entries() if entry.name == argument), None)
    if entry:
        return entry.load(changes)
    if kind is None:
        _check_is_text(argument, path)
    return recipe_from_text(
        argument, kind=kind, to=to, sources=sources, targets=targets, overrides=overrides
    )


def _check_is_text(argument: str, path: Path) -> None:
    """Raise an error if the argument looks like a mistyped file or catalog name."""
    if argument and len(argument) < 256 and path.is_dir():
        hint = f"to use `{argument}` as a subject, add `--kind object`"
        raise RecipeError(f"recipe `{argument}` is a folder", hint)
    if path.suffix in _SUFFIXES or len(path.parts) > 1:
        known = any(entry.name == path.stem for entry in entries())
        hint = f"the catalog has `{path.stem}`" if known else _LIST_HINT
        raise RecipeError(f"recipe `{argument}` does not exist", hint)
    names = [entry.name for entry in entries()]
    close = get_close_matches(argument, names, n=1, cutoff=0.8)
    if close:
        hint = f"did you mean `{close[0]}`? to use it as a subject, add `--kind`"
        raise UnknownName(f"unknown recipe `{argument}`", hint)
    if "_" in argument:
        find(argument)


def _is_file(path: Path) -> bool:
    try:
        return path.exists() and not path.is_dir()
    except OSError:  # text can be too long for a file name
        return False


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
