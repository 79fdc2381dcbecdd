"""Error messages about invalid recipes, with file, line and key."""

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from loco_cli.errors import RecipeError
from loco_cli.recipe.record import (
    EditEntry,
    EditSettings,
    EvaluateSettings,
    LocalizeSettings,
    RecipeDocument,
)
from loco_cli.recipe.tree import KeyPath, Tree, dotted
from loco_cli.recipe.values import quoted
from loco_cli.records import Record

_SECTIONS: dict[str, type[Record]] = {
    "edits": EditEntry,
    "localize": LocalizeSettings,
    "edit": EditSettings,
    "evaluate": EvaluateSettings,
}

_Details = Any  # ErrorDetails of pydantic, whose module differs between versions
_Sentence = tuple[str, str | None]  # message, hint


def recipe_error(error: ValidationError, tree: Tree) -> RecipeError:
    """Return the first error, unknown keys first: they often explain a missing key."""
    details = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")[0]
    path = _known_path(details["loc"], tree)
    message, hint = _SENTENCES.get(details["type"], _other)(path, details)
    return error_at(tree, path, message, hint)


def error_at(tree: Tree, path: KeyPath, message: str, hint: str | None = None) -> RecipeError:
    """Return an error about the key at `path`."""
    place = tree.place(path)
    kind = "" if place.startswith("--") else "recipe "
    return RecipeError(f"{kind}`{place}`: {message}", hint)


def _key_paths() -> Iterator[KeyPath]:
    for key in RecipeDocument.model_fields:
        yield (key,)
        prefix: KeyPath = ("edits", 0) if key == "edits" else (key,)
        if key in _SECTIONS:
            yield from ((*prefix, inner) for inner in _SECTIONS[key].model_fields)


def _known_path(loc: tuple[str | int, ...], tree: Tree) -> KeyPath:
    # pydantic adds type names to the path of a union, and a missing key has no place of its own
    for end in range(len(loc), 0, -1):
        if loc[:end] in tree.places or (loc[: end - 1] in tree.places and end == len(loc)):
            return loc[:end]
    return loc


def _unknown(path: KeyPath, details: _Details) -> _Sentence:
    section = _SECTIONS[str(path[0])] if len(path) > 1 else RecipeDocument
    wrong, known = str(path[-1]), list(section.model_fields)
    elsewhere = [p for p in _key_paths() if len(p) > 1 and p[-1] == wrong]
    # short keys are all similar to each other, so the hint lists them instead
    close = get_close_matches(wrong, known, n=1) if len(wrong) > 3 else []
    if close:
        hint = f"did you mean `{dotted((*path[:-1], close[0]))}`?"
    elif elsewhere:
        hint = f"did you mean `{dotted(elsewhere[0])}`?"
    else:
        hint = f"known keys: {', '.join(known)}"
    return f"unknown key `{dotted(path)}`", hint


def _missing(path: KeyPath, details: _Details) -> _Sentence:
    hint = "a recipe begins with `loco: 1`" if path == ("loco",) else None
    return f"key `{dotted(path)}` is missing", hint


def _word(path: KeyPath, details: _Details) -> _Sentence:
    if path == ("loco",):
        return f"unknown format {quoted(details['input'])}", "this version reads `loco: 1`"
    expected = str(details["ctx"]["expected"]).replace("'", "")
    return f"`{dotted(path)}` is {quoted(details['input'])}", f"choose {expected}"


def _value(path: KeyPath, details: _Details) -> _Sentence:
    return f"`{dotted(path)}` {details['ctx']['error']}", None


def _bound(path: KeyPath, details: _Details) -> _Sentence:
    ((name, bound),) = details["ctx"].items()
    limit = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}[name]
    return f"`{dotted(path)}` is {quoted(details['input'])}, but must be {limit} {bound:g}", None


def _text(path: KeyPath, details: _Details) -> _Sentence:
    sentence = f"`{dotted(path)}` is {quoted(details['input'])}, not text"
    return sentence, None if isinstance(details["input"], list | dict) else "put it in quotes"


def _list(path: KeyPath, details: _Details) -> _Sentence:
    given = details["input"]
    hint = f"write it like `[{given}]`" if isinstance(given, str) else None
    return f"`{dotted(path)}` is {quoted(given)}, not a list", hint


def _type(path: KeyPath, details: _Details) -> _Sentence:
    noun = _NOUNS[details["type"]]
    return f"`{dotted(path)}` is {quoted(details['input'])}, not {noun}", None


def _empty(path: KeyPath, details: _Details) -> _Sentence:
    return f"`{dotted(path)}` is empty", None


def _other(path: KeyPath, details: _Details) -> _Sentence:
    return f"`{dotted(path)}` is invalid: {details['msg'].lower()}", None


_NOUNS = {
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a number of reasonable size",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
}
_SENTENCES: dict[str, Callable[[KeyPath, _Details], _Sentence]] = {
    "extra_forbidden": _unknown,
    "missing": _missing,
    "literal_error": _word,
    "value_error": _value,
    "string_type": _text,
    "string_too_short": _empty,
    "too_short": _empty,
    "tuple_type": _list,
    "greater_than": _bound,
    "greater_than_equal": _bound,
    "less_than": _bound,
    "less_than_equal": _bound,
    **dict.fromkeys(_NOUNS, _type),
}
