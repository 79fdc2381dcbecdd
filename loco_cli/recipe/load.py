"""
From text to a Recipe and back: read, lay options over it, validate, and write the file again.

A key that is set from outside the file (`--set edit.ridge=0.1`, or an option such as `--ridge 0.1`)
is dotted and may count into a list: `edits.1.subject`. The keys of an edit may stand alone where
there is one edit: `subject`. Setting `edit.layers` drops `edit.layer_range`, and the other way
round, since they say the same thing.
"""

import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from loco_cli.concept import (
    Concept,
    ConceptKind,
    edit_pairs,
    localize_pairs,
    parse_concept,
    same_name,
)
from loco_cli.errors import ConceptError, RecipeError
from loco_cli.protocol.wordings import bare_name, requests_style, tidy
from loco_cli.recipe.record import EditEntry, Recipe, RecipeDocument
from loco_cli.recipe.tree import KeyPath, RecipeLoader, Tree, read_tree
from loco_cli.recipe.validation import error_at, recipe_error

# their values are words even where YAML would see a number or a boolean
_TEXT_KEYS = frozenset({"title", "model", "subject", "to", "was"})
_RIVALS: dict[KeyPath, KeyPath] = {
    ("edit", "layers"): ("edit", "layer_range"),
    ("edit", "layer_range"): ("edit", "layers"),
}
_STARTER = """\
# {name}: what this recipe is for, in a line or two.
#
# Try it:    loco edit {where} --dry-run
# Run it:    loco edit {where}
# All keys:  loco recipes schema

loco: 1                        # format version
title: Remove the style of Van Gogh
model: tiny                    # a default; --model overrides it

edits:                         # one or more, solved together
  - kind: style                # style | object | fact
    subject: van gogh          # the words that name it in a prompt
    to: painting               # what it becomes; an object may go without
    # source: ["{{subject}}", "a painting in the style of {{subject}}"]
    # target: ["{{to}}", "a painting"]
    # aliases: [vincent]       # other names of the same thing
    # was: queen elizabeth     # a fact's former answer

preserve: auto                 # auto | none | a list of subjects or prompts
edit: {{layer_range: auto}}      # auto | published | [8, 10], which is layers 8 and 9
tags: [style]
"""


class _Dumper(yaml.SafeDumper):
    """Quotes what either YAML 1.1 or 1.2 would take for more than a word."""


for _first, _resolvers in RecipeLoader.yaml_implicit_resolvers.items():
    for _tag, _pattern in _resolvers:
        _Dumper.add_implicit_resolver(_tag, _pattern, [_first])


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


def load_recipe(
    text: str, where: str, overrides: Sequence[Override] = (), name: str | None = None
) -> Recipe:
    """
    Return the recipe of a file's text; raises RecipeError with file, line and key.

    `where` is how errors call the file; `name` is its stem if not given.
    """
    try:
        digest = sha256(text.encode()).hexdigest()
    except UnicodeEncodeError:
        raise RecipeError(f"recipe `{where}` is not text in UTF-8") from None
    tree = _apply_overrides(read_tree(text, where), overrides)
    try:
        document = RecipeDocument.model_validate(tree.values)
    except ValidationError as error:
        raise recipe_error(error, tree) from None
    _check_edits(document, tree)
    _check_sources(document, tree)
    _check_targets(document, tree)
    _check_preserve(document, tree)
    return Recipe(
        **dict(document),
        name=name or Path(where).stem,
        text=text,
        sha256=digest,
        overrides={override.key: override.value for override in overrides},
    )


def recipe_from_text(
    text: str,
    *,
    kind: ConceptKind | None = None,
    to: str | None = None,
    sources: Sequence[str] = (),
    targets: Sequence[str] = (),
    overrides: Sequence[Override] = (),
) -> Recipe:
    """
    Return the recipe of a concept in words: "van gogh style" with `to="painting"`.

    Its `text` is the file that would say the same, so that it can be saved and read again.
    """
    found, subject = parse_concept(text, kind)
    concept = Concept.of(found, subject, _set_to(overrides) if to is None else to)
    localize_pairs(concept, sources, targets)
    edit_pairs(concept, sources, targets)
    entry: dict[str, Any] = {"kind": found, "subject": concept.subject, "to": concept.to}
    entry |= {"source": list(sources)} if sources else {}
    entry |= {"target": list(targets)} if targets else {}
    title = f"{concept.subject} to {concept.to}" if concept.to else f"remove {concept.subject}"
    file_text = _render_document({"loco": 1, "title": title, "edits": [entry]})
    return load_recipe(file_text, f"{subject} {found}", overrides, name=_slug(f"{subject} {found}"))


def _slug(text: str) -> str:
    """Return `text` as a file name: lower case, with `-` for whatever is no letter or digit."""
    return re.sub(r"[\W_]+", "-", text.casefold()).strip("-") or "recipe"


def render_recipe(recipe: Recipe) -> str:
    """Return the file of a recipe, overrides and defaults written out."""
    return _render_document(recipe.document())


def render_starter(name: str, where: str | None = None) -> str:
    """Return a commented recipe to start from; `where` is how to type it, if not its name."""
    return _STARTER.format(name=name, where=where or name)


def recipe_schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe file, for editors that check YAML."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **RecipeDocument.model_json_schema(),
        "title": "loco recipe",
    }


def _render_document(document: dict[str, Any]) -> str:
    """Return a recipe's keys as YAML, in their order, small mappings on one line."""
    return yaml.dump(
        document,
        Dumper=_Dumper,
        default_flow_style=None,
        sort_keys=False,
        allow_unicode=True,
        width=100,
    )


def _apply_overrides(tree: Tree, overrides: Sequence[Override]) -> Tree:
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


def _set_to(overrides: Sequence[Override]) -> str | None:
    """Return the target that `--set` gives the only edit, None where it gives none."""
    keys = ("to", "edits.0.to")
    return next((str(one.value) for one in reversed(overrides) if one.key in keys), None)


def _culprit(tree: Tree, index: int) -> KeyPath:
    """Return the key of an edit that was set from outside, if any, else the edit."""
    inside = (path for path in tree.places if path[:2] == ("edits", index))
    set_outside = (path for path in inside if tree.places[path].startswith("--"))
    return next(set_outside, ("edits", index))


def _check_edits(document: RecipeDocument, tree: Tree) -> None:
    seen: dict[str, int] = {}
    for index, entry in enumerate(document.edits):
        try:
            _ = entry.localize_pairs, entry.edit_pairs  # built here, and kept
        except ConceptError as error:
            raise error_at(tree, _culprit(tree, index), error.message, error.hint) from None
        for name in entry.concept.names:
            if bare_name(name) in seen:
                first = seen[bare_name(name)]
                message = f"edits {first} and {index} are both of `{name}`"
                raise error_at(tree, ("edits", index, "subject"), message)
            seen[bare_name(name)] = index


def _check_sources(document: RecipeDocument, tree: Tree) -> None:
    """Raise RecipeError where one source prompt is to read as two different targets."""
    seen: dict[str, tuple[int, str]] = {}
    for index, entry in enumerate(document.edits):
        for pair in entry.edit_pairs:
            first, target = seen.setdefault(tidy(pair.source).casefold(), (index, pair.target))
            if target != pair.target:
                where = f"edit {index}" if first == index else f"edits {first} and {index}"
                message = f"`{pair.source}` goes to `{target}` and to `{pair.target}` in {where}"
                hint = "give it one target, or drop one of the two source prompts"
                raise error_at(tree, _culprit(tree, index), message, hint)


def _check_targets(document: RecipeDocument, tree: Tree) -> None:
    """Raise RecipeError where one edit makes a thing of another that a second edit takes away."""
    concepts = [entry.concept for entry in document.edits]
    for index, concept in enumerate(concepts):
        for other, gone in enumerate(concepts):
            if other != index and concept.to and any(same_name(concept.to, n) for n in gone.names):
                message = f"edits {index} and {other} contradict: `{concept.subject}` goes to "
                message += f"`{concept.to}`, and `{gone.subject}` to `{gone.to or 'nothing'}`"
                hint = f"let edit {index} go where edit {other} does, or drop one"
                raise error_at(tree, _culprit(tree, index), message, hint)


def _check_preserve(document: RecipeDocument, tree: Tree) -> None:
    """Raise RecipeError where a preserved subject or prompt is one that is edited."""
    for entry in document.preserve if isinstance(document.preserve, tuple) else ():
        for edit in document.edits:
            sources = (pair.source for pair in (*edit.edit_pairs, *edit.localize_pairs))
            concept = edit.concept
            if concept.is_named(entry) or any(same_name(entry, one) for one in sources):
                message = f"`{entry}` is both edited and under `preserve`"
                raise error_at(tree, ("preserve",), message)
            if concept.kind == "style" and any(requests_style(entry, n) for n in concept.names):
                message = f"`{entry}` asks for the style that is edited, and is under `preserve`"
                raise error_at(tree, ("preserve",), message)
