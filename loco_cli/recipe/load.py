"""
Loading of recipes: parse the text, apply overrides, validate, and render the file again.

The command line overrides a key with `--set edit.ridge=0.1` or an option such as `--ridge 0.1`.
Keys are dotted, with indices into lists: `edits.1.subject`. If a recipe has one edit, its keys need
no prefix: `subject`. `edit.layers` and `edit.layer_range` cannot be combined, so setting one
removes the other.
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

# values of these keys are text even if YAML would parse a number or a boolean
_TEXT_KEYS = frozenset({"title", "model", "subject", "to", "was"})
_EXCLUDED_KEYS: dict[KeyPath, KeyPath] = {
    ("edit", "layers"): ("edit", "layer_range"),
    ("edit", "layer_range"): ("edit", "layers"),
}
_STARTER = """\
# {name}: describe the purpose of this recipe here.
#
# Try it:    loco edit {where} --dry-run
# Run it:    loco edit {where}
# All keys:  loco recipes schema

loco: 1                        # format version
title: Remove the style of Van Gogh
model: tiny                    # default model; --model overrides it

edits:                         # one or more, solved together
  - kind: style                # style | object | fact
    subject: van gogh          # its name in a prompt
    to: painting               # its replacement; optional for an object
    # source: ["{{subject}}", "a painting in the style of {{subject}}"]
    # target: ["{{to}}", "a painting"]
    # aliases: [vincent]       # other names of the same thing
    # was: queen elizabeth     # for a fact, the previous holder of the office

preserve: auto                 # auto | none | a list of subjects or prompts
edit: {{layer_range: auto}}      # auto | published | [8, 10] for layers 8 and 9
tags: [style]
"""


class _Dumper(yaml.SafeDumper):
    """A YAML dumper that quotes words with a special meaning in YAML 1.1 or 1.2."""


for _first, _resolvers in RecipeLoader.yaml_implicit_resolvers.items():
    for _tag, _pattern in _resolvers:
        _Dumper.add_implicit_resolver(_tag, _pattern, [_first])


@dataclass(frozen=True)
class Override:
    """A key that the command line sets: `Override("edit.ridge", 0.1, origin="--ridge 0.1")`."""

    key: str
    value: Any
    origin: str

    @classmethod
    def parse(cls, text: str) -> "Override":
        """
        Return the override of `"edit.ridge=0.1"`; the value is YAML, or text for a text key.

        Raises:
            RecipeError: The text is not `KEY=VALUE`, or the value is not valid YAML.
        """
        key, equals, value = text.partition("=")
        key, origin = key.strip(), f"--set {text}"
        if not key or not equals:
            raise RecipeError(f"`{origin}` is not `KEY=VALUE`", "write it like `edit.ridge=0.1`")
        if key.rpartition(".")[2] in _TEXT_KEYS:
            return cls(key, value.strip(), origin)
        try:
            return cls(key, read_tree(f"value: {value}", origin).values["value"], origin)
        except RecipeError as error:
            raise RecipeError(
                f"`{origin}`: `{value}` is not a valid YAML value", error.hint
            ) from None

    @classmethod
    def of_options(cls, options: dict[str, tuple[str, Any]]) -> tuple["Override", ...]:
        """
        Return the overrides of all options that are not None.

        `{"--ridge": ("edit.ridge", "0.01x")}` sets `edit.ridge`, and errors name `--ridge`.
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
    Parse and validate the text of a recipe.

    Args:
        text: The YAML text.
        where: The file name for error messages.
        overrides: Keys that the command line sets, applied in order.
        name: The name of the recipe; default is the stem of `where`.

    Raises:
        RecipeError: The recipe is invalid; the message has file, line and key.
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

    The `text` of the recipe is an equivalent YAML file, which can be saved and loaded again.

    Args:
        text: The concept, with or without its kind as the last word.
        kind: The kind; if given, the whole text is the subject.
        to: The target; default by kind.
        sources: Source templates with `{subject}`.
        targets: Target templates with `{to}`.
        overrides: Keys that the command line sets.

    Raises:
        ConceptError: The text is not a valid concept.
        RecipeError: An override is invalid.
    """
    found, subject = parse_concept(text, kind)
    concept = Concept.of(found, subject, _target_override(overrides) if to is None else to)
    localize_pairs(concept, sources, targets)
    edit_pairs(concept, sources, targets)
    entry: dict[str, Any] = {"kind": found, "subject": concept.subject, "to": concept.to}
    entry |= {"source": list(sources)} if sources else {}
    entry |= {"target": list(targets)} if targets else {}
    title = f"{concept.subject} to {concept.to}" if concept.to else f"remove {concept.subject}"
    file_text = _render_document({"loco": 1, "title": title, "edits": [entry]})
    return load_recipe(file_text, f"{subject} {found}", overrides, name=_slug(f"{subject} {found}"))


def _slug(text: str) -> str:
    """Return `text` as a file name: lower case, with `-` between runs of letters and digits."""
    return re.sub(r"[\W_]+", "-", text.casefold()).strip("-") or "recipe"


def render_recipe(recipe: Recipe) -> str:
    """Return the YAML text of a recipe, including overrides and defaults."""
    return _render_document(recipe.document())


def render_starter(name: str, where: str | None = None) -> str:
    """Return a commented starter recipe; `where` is its path if the catalog does not have it."""
    return _STARTER.format(name=name, where=where or name)


def recipe_schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe file, for editors that check YAML."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **RecipeDocument.model_json_schema(),
        "title": "loco recipe",
    }


def _render_document(document: dict[str, Any]) -> str:
    """Return a document as YAML, with keys in order and small mappings on one line."""
    return yaml.dump(
        document,
        Dumper=_Dumper,
        default_flow_style=None,
        sort_keys=False,
        allow_unicode=True,
        width=100,
    )


def _apply_overrides(tree: Tree, overrides: Sequence[Override]) -> Tree:
    """Return a copy of the tree with all overrides applied in order."""
    values, places = deepcopy(tree.values), dict(tree.places)
    for override in overrides:
        path = _path(values, override)
        _set(values, path, override)
        places = {known: place for known, place in places.items() if known[: len(path)] != path}
        new = (path[:end] for end in range(1, len(path)) if path[:end] not in places)
        places |= {key: override.origin for key in (*new, path)}
        excluded = _EXCLUDED_KEYS.get(path)
        if excluded and isinstance(section := values.get(str(excluded[0])), dict):
            section.pop(excluded[1], None)
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
            f"add its index, counted from 0: `edits.0.{override.key}`",
        )
    return ("edits", 0, *path)


def _set(values: dict[str, Any], path: KeyPath, override: Override) -> None:
    here: Any = values
    for key, following in zip(path, (*path[1:], None), strict=True):
        if isinstance(here, list):
            if not isinstance(key, int) or key >= len(here):
                raise RecipeError(f"`{override.origin}`: `{override.key}` does not exist")
        elif isinstance(here, dict):
            here.setdefault(str(key), {})
        else:
            raise RecipeError(f"`{override.origin}`: a single value cannot have keys")
        place = key if isinstance(here, list) else str(key)
        if following is None:
            here[place] = override.value
        here = here[place]


def _target_override(overrides: Sequence[Override]) -> str | None:
    """Return the target that `--set` gives to the only edit, or None."""
    keys = ("to", "edits.0.to")
    return next((str(one.value) for one in reversed(overrides) if one.key in keys), None)


def _key_to_blame(tree: Tree, index: int) -> KeyPath:
    """Return the first key of an edit that the command line set, or else the edit."""
    inside = (path for path in tree.places if path[:2] == ("edits", index))
    set_outside = (path for path in inside if tree.places[path].startswith("--"))
    return next(set_outside, ("edits", index))


def _check_edits(document: RecipeDocument, tree: Tree) -> None:
    seen: dict[str, int] = {}
    for index, entry in enumerate(document.edits):
        try:
            _ = entry.localize_pairs, entry.edit_pairs  # cached properties that raise
        except ConceptError as error:
            raise error_at(tree, _key_to_blame(tree, index), error.message, error.hint) from None
        for name in entry.concept.names:
            if bare_name(name) in seen:
                first = seen[bare_name(name)]
                message = f"edits {first} and {index} both edit `{name}`"
                raise error_at(tree, ("edits", index, "subject"), message)
            seen[bare_name(name)] = index


def _check_sources(document: RecipeDocument, tree: Tree) -> None:
    """Raise RecipeError if one source prompt has two different targets."""
    seen: dict[str, tuple[int, str]] = {}
    for index, entry in enumerate(document.edits):
        for pair in entry.edit_pairs:
            first, target = seen.setdefault(tidy(pair.source).casefold(), (index, pair.target))
            if target != pair.target:
                where = f"edit {index}" if first == index else f"edits {first} and {index}"
                message = (
                    f"`{pair.source}` has the targets `{target}` and `{pair.target}` in {where}"
                )
                hint = "use one target, or remove one of the two source prompts"
                raise error_at(tree, _key_to_blame(tree, index), message, hint)


def _check_targets(document: RecipeDocument, tree: Tree) -> None:
    """Raise RecipeError if the target of one edit is the subject of another."""
    concepts = [entry.concept for entry in document.edits]
    for index, concept in enumerate(concepts):
        for other, gone in enumerate(concepts):
            if other != index and concept.to and any(same_name(concept.to, n) for n in gone.names):
                message = f"edits {index} and {other} contradict each other: `{concept.subject}` "
                message += f"becomes `{concept.to}`, but `{gone.subject}` becomes "
                message += f"`{gone.to or 'nothing'}`"
                hint = f"give edit {index} the target of edit {other}, or remove one of them"
                raise error_at(tree, _key_to_blame(tree, index), message, hint)


def _check_preserve(document: RecipeDocument, tree: Tree) -> None:
    """Raise RecipeError if a preserved subject or prompt is also edited."""
    for entry in document.preserve if isinstance(document.preserve, tuple) else ():
        for edit in document.edits:
            sources = (pair.source for pair in (*edit.edit_pairs, *edit.localize_pairs))
            concept = edit.concept
            if concept.is_named(entry) or any(same_name(entry, one) for one in sources):
                message = f"`{entry}` is both edited and preserved"
                raise error_at(tree, ("preserve",), message)
            if concept.kind == "style" and any(requests_style(entry, n) for n in concept.names):
                message = f"`{entry}` is in `preserve`, but it asks for the edited style"
                raise error_at(tree, ("preserve",), message)
