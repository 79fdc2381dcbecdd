"""From text to a Recipe: read, override, validate, and make every prompt once."""

import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

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
from loco_cli.protocol.wordings import asks_for_style, bare_name, tidy
from loco_cli.recipe.complaints import complain, complaint
from loco_cli.recipe.overrides import Override, apply_overrides
from loco_cli.recipe.record import Recipe, RecipeDocument
from loco_cli.recipe.render import render_document
from loco_cli.recipe.tree import KeyPath, Tree, read_tree


def load_recipe(
    text: str, where: str, overrides: Sequence[Override] = (), name: str | None = None
) -> Recipe:
    """
    Return the recipe of a file's text; raises RecipeError with file, line and key.

    `where` is how errors call the file; `name` is its stem if not given.
    """
    digest = _digest(text, where)
    tree = apply_overrides(read_tree(text, where), overrides)
    try:
        document = RecipeDocument.model_validate(tree.values)
    except ValidationError as error:
        raise complaint(error, tree) from None
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
    file_text = render_document({"loco": 1, "title": title, "edits": [entry]})
    return load_recipe(file_text, f"{subject} {found}", overrides, name=slug(f"{subject} {found}"))


def slug(text: str) -> str:
    """Return `text` as a file name: lower case, with `-` for whatever is no letter or digit."""
    return re.sub(r"[\W_]+", "-", text.casefold()).strip("-") or "recipe"


def _set_to(overrides: Sequence[Override]) -> str | None:
    """Return what `--set` says that the only edit goes to, None where it says nothing."""
    keys = ("to", "edits.0.to")
    return next((str(one.value) for one in reversed(overrides) if one.key in keys), None)


def _digest(text: str, where: str) -> str:
    try:
        return sha256(text.encode()).hexdigest()
    except UnicodeEncodeError:
        raise RecipeError(f"recipe `{where}` is not text in UTF-8") from None


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
            raise complain(tree, _culprit(tree, index), error.message, error.hint) from None
        for name in entry.concept.names:
            if bare_name(name) in seen:
                first = seen[bare_name(name)]
                message = f"edits {first} and {index} are both of `{name}`"
                raise complain(tree, ("edits", index, "subject"), message)
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
                raise complain(tree, _culprit(tree, index), message, hint)


def _check_targets(document: RecipeDocument, tree: Tree) -> None:
    """Raise RecipeError where one edit makes a thing of another that a second edit takes away."""
    concepts = [entry.concept for entry in document.edits]
    for index, concept in enumerate(concepts):
        for other, gone in enumerate(concepts):
            if other != index and concept.to and any(same_name(concept.to, n) for n in gone.names):
                message = f"edits {index} and {other} contradict: `{concept.subject}` goes to "
                message += f"`{concept.to}`, and `{gone.subject}` to `{gone.to or 'nothing'}`"
                hint = f"let edit {index} go where edit {other} does, or drop one"
                raise complain(tree, _culprit(tree, index), message, hint)


def _check_preserve(document: RecipeDocument, tree: Tree) -> None:
    """Raise RecipeError where a preserved subject or prompt is one that is edited."""
    for entry in document.preserve if isinstance(document.preserve, tuple) else ():
        for edit in document.edits:
            sources = (pair.source for pair in (*edit.edit_pairs, *edit.localize_pairs))
            concept = edit.concept
            if concept.is_named(entry) or any(same_name(entry, one) for one in sources):
                message = f"`{entry}` is both edited and under `preserve`"
                raise complain(tree, ("preserve",), message)
            if concept.kind == "style" and any(asks_for_style(entry, n) for n in concept.names):
                message = f"`{entry}` asks for the style that is edited, and is under `preserve`"
                raise complain(tree, ("preserve",), message)
