"""
Keys set from outside the file: `--set edit.ridge=0.1`, or an option such as `--ridge 0.1`.

A key is dotted and may count into a list: `edits.1.subject`. The keys of an edit may stand
alone where there is one edit: `subject`. Setting `edit.layers` drops `edit.layer_range`, and the
other way round, since they say the same thing.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from loco_cli.errors import RecipeError
from loco_cli.recipe.record import EditEntry
from loco_cli.recipe.tree import KeyPath, Tree, read_tree

# their values are words even where YAML would see a number or a boolean
_TEXT_KEYS = frozenset({"title", "model", "subject", "to", "was"})
_RIVALS: dict[KeyPath, KeyPath] = {
    ("edit", "layers"): ("edit", "layer_range"),
    ("edit", "layer_range"): ("edit", "layers"),
}


@dataclass(frozen=True)
class Override:
    """One key set from outside: `Override("edit.ridge", 0.1, origin="--ridge 0.1")`."""

    key: str
    value: Any
    origin: str

    @classmethod
    def parse(cls, text: str) -> "Override":
        """Return the override of `"edit.ridge=0.1"`; its value is YAML, or text for a text key."""
        key, equals, value = text.partition("=")
        key, origin = key.strip(), f"--set {text}"
        if not key or not equals:
            raise RecipeError(f"`{origin}` is no `KEY=VALUE`", "write it like `edit.ridge=0.1`")
        if key.rpartition(".")[2] in _TEXT_KEYS:
            return cls(key, value.strip(), origin)
        try:
            return cls(key, read_tree(f"value: {value}", origin).values["value"], origin)
        except RecipeError as error:
            raise RecipeError(f"`{origin}`: `{value}` is no value in YAML", error.hint) from None

    @classmethod
    def of_options(cls, options: dict[str, tuple[str, Any]]) -> tuple["Override", ...]:
        """
        Return the overrides of options, those that are None left out.

        `{"--ridge": ("edit.ridge", "0.01x")}` sets `edit.ridge`; errors name `--ridge`.
        """
        return tuple(
            cls(key, list(value) if isinstance(value, tuple) else value, option)
            for option, (key, value) in options.items()
            if value is not None
        )


def apply_overrides(tree: Tree, overrides: Sequence[Override]) -> Tree:
    """Return the tree with all keys set, in order; the given tree is left as it is."""
    values, places = deepcopy(tree.values), dict(tree.places)
    for override in overrides:
        path = _path(values, override)
        _set(values, path, override)
        places = {known: place for known, place in places.items() if known[: len(path)] != path}
        new = (path[:end] for end in range(1, len(path)) if path[:end] not in places)
        places |= {key: override.origin for key in (*new, path)}
        rival = _RIVALS.get(path)
        if rival and isinstance(section := values.get(str(rival[0])), dict):
            section.pop(rival[1], None)
    return Tree(values, places)


def _path(values: dict[str, Any], override: Override) -> KeyPath:
    first, *rest = override.key.split(".")
    path: KeyPath = (first, *(int(key) if key.isdecimal() else key for key in rest))
    if first not in EditEntry.model_fields:
        return path
    edits = values.get("edits")
    if isinstance(edits, list) and len(edits) != 1:
        raise RecipeError(
            f"`{override.origin}`: the recipe has {len(edits)} edits",
            f"say which, counted from 0: `edits.0.{override.key}`",
        )
    return ("edits", 0, *path)


def _set(values: dict[str, Any], path: KeyPath, override: Override) -> None:
    here: Any = values
    for key, following in zip(path, (*path[1:], None), strict=True):
        if isinstance(here, list):
            if not isinstance(key, int) or key >= len(here):
                raise RecipeError(f"`{override.origin}`: there is no `{override.key}`")
        elif isinstance(here, dict):
            here.setdefault(str(key), {})
        else:
            raise RecipeError(f"`{override.origin}`: there is nothing below a single value")
        place = key if isinstance(here, list) else str(key)
        if following is None:
            here[place] = override.value
        here = here[place]
