"""
The prompts of an evaluation and their labels: what should be forgotten, what should be kept.

A prompt's labels are the same prompt with the subject as it is, exchanged for each neighbour, for
what it goes to, and, for a style, left out. Names of the same thing are no neighbours.
"""

import re
from dataclasses import dataclass
from itertools import cycle

from loco_cli.concept import (
    DEFAULT_TO,
    KINDS,
    Concept,
    ConceptKind,
    default_target,
)
from loco_cli.editing.preserve import (
    N_OTHER_KINDS,
    Names,
    all_names,
    everyday_split,
    listed_things,
    neighbours,
    share_a_name,
)
from loco_cli.families.spec import ModelSpec
from loco_cli.protocol.wordings import FORGET, KEEP, VALIDATE, bare_name, fill, without_style
from loco_cli.recipe.record import EditEntry, Recipe

UNRELATED = "unrelated prompts"  # what they are called in the place of a concept
N_KEPT = 8  # concepts that an edit's strength is chosen by, evenly of those to keep


@dataclass(frozen=True)
class _Labels:
    """
    What a picture of a prompt may be called: the first text is the prompt itself, which is right.

    `target` is the index of what the picture should become, None for one to keep.
    """

    texts: tuple[str, ...]
    target: int | None = None

    def is_target(self, called: int) -> bool | None:
        """
        Return whether a picture that is called so became what it should, None for one to keep.

        Of the empty prompt a model draws whatever it likes: there everything but the subject is
        right. Of 32 pictures that `tiny` makes of no words its judge calls 11 by a thing's name.
        """
        if self.target is None:
            return None
        return called == self.target if self.texts[self.target] else called != 0


@dataclass(frozen=True)
class Question:
    """One prompt to judge; `edit` is None for one to keep, `labels` None for an unrelated one."""

    prompt: str
    concept: str
    kind: ConceptKind | None
    edit: int | None
    labels: _Labels | None


def questions(spec: ModelSpec, recipe: Recipe) -> tuple[Question, ...]:
    """Return all prompts of an evaluation, each once: what to forget, then what to keep."""
    forget = [
        _to_forget(spec, recipe, index, fill(template, "subject", name), template)
        for index, concept in enumerate(recipe.concepts)
        for name in concept.names
        for template in FORGET[concept.kind]
    ]
    forget += [_asked_to_forget(spec, recipe, prompt) for prompt in recipe.evaluate.forget]
    keep = [
        _to_keep(spec, recipe, kind, name, fill(template, "subject", name), template)
        for kind, name in _kept_concepts(spec, recipe)
        for template in KEEP[kind]
    ]
    keep += [_asked_to_keep(spec, recipe, prompt) for prompt in recipe.evaluate.keep]
    unrelated = everyday_split(spec, recipe).judged
    keep += [Question(prompt, UNRELATED, None, None, None) for prompt in unrelated]
    return tuple(dict.fromkeys((*forget, *keep)))


def validation(spec: ModelSpec, recipe: Recipe) -> tuple[Question, ...]:
    """
    Return the prompts that choose how strong an edit is, each once: to forget, then to keep.

    They are no evaluation's, and fewer: the names of a concept take turns in its wordings.
    """
    forget = [
        _to_forget(spec, recipe, index, fill(template, "subject", name), template)
        for index, concept in enumerate(recipe.concepts)
        for template, name in zip(VALIDATE[concept.kind], cycle(concept.names), strict=False)
    ]
    concepts = _kept_concepts(spec, recipe)
    n = min(N_KEPT, len(concepts))
    keep = []
    for i, (kind, name) in enumerate(concepts[k * len(concepts) // n] for k in range(n)):
        template = VALIDATE[kind][i % len(VALIDATE[kind])]
        keep.append(_to_keep(spec, recipe, kind, name, fill(template, "subject", name), template))
    return tuple(dict.fromkeys((*forget, *keep)))


def _kept_concepts(spec: ModelSpec, recipe: Recipe) -> tuple[tuple[ConceptKind, str], ...]:
    """
    Return the concepts that an edit must keep: neighbours, the preserve list, a few of other kinds.

    `preserve: auto` takes every other neighbour and the first known things of other kinds, the
    last of which are asked for here: so half of these at least were never in the preserve set.
    """
    kept: list[tuple[ConceptKind, str]] = []
    for kind in _edited_kinds_first(recipe):
        names = neighbours(spec, recipe, kind)
        if kind not in {concept.kind for concept in recipe.concepts}:
            n_listed = len(listed_things(spec, recipe, kind))
            names = (*names[:n_listed], *names[n_listed:][-N_OTHER_KINDS:])
        kept += [(kind, thing[0]) for thing in names]
    return tuple(kept)


def _labels_of(
    spec: ModelSpec,
    recipe: Recipe,
    kind: ConceptKind,
    prompt: str,
    template: str,
    names: Names,
    concept: Concept | None = None,
    *,
    is_swap: bool = False,
) -> _Labels:
    """
    Return the labels of a prompt, which is `template` about a thing under one of its `names`.

    `concept` is what an edit makes of that thing, None for one to keep; `is_swap` says that a style
    becomes another one, and not the plain picture.
    """
    becomes = (concept.to,) if concept and concept.to and (kind != "style" or is_swap) else ()
    edited = [all_names(other) for other in recipe.concepts if other.kind == kind]
    texts = [prompt]
    for thing in (*edited, *neighbours(spec, recipe, kind)):
        if not share_a_name(thing, names) and not share_a_name(thing, becomes):
            texts.append(fill(template, "subject", thing[0]))
    if kind == "style":
        plain = concept.to if concept and not is_swap else str(DEFAULT_TO[kind])
        texts.append(without_style(template, plain))
    if concept is None:
        return _Labels(tuple(dict.fromkeys(texts)))
    swapped = fill(template, "subject", concept.to)
    target = swapped if is_swap else default_target(concept, template)
    unique = tuple(dict.fromkeys((*texts, target)))
    return _Labels(unique, unique.index(target))


def _to_forget(spec: ModelSpec, recipe: Recipe, index: int, prompt: str, template: str) -> Question:
    concept = recipe.concepts[index]
    names = all_names(concept)
    is_swap = _is_swap(recipe.edits[index])
    labels = _labels_of(
        spec, recipe, concept.kind, prompt, template, names, concept, is_swap=is_swap
    )
    return Question(prompt, concept.subject, concept.kind, index, labels)


def _is_swap(entry: EditEntry) -> bool:
    """Whether a style's target prompts are its source prompts with another style in them."""
    targets = {one.replace("{to}", "{subject}") for one in entry.target}
    alike = targets & set(entry.source) - {"{subject}"}  # a name alone may be anything
    return entry.kind == "style" and bool(alike)


def _to_keep(
    spec: ModelSpec, recipe: Recipe, kind: ConceptKind, name: str, prompt: str, template: str
) -> Question:
    labels = _labels_of(spec, recipe, kind, prompt, template, (name,))
    return Question(prompt, name, kind, None, labels)


def _asked_to_forget(spec: ModelSpec, recipe: Recipe, prompt: str) -> Question:
    """Return the user's own prompt as a question; one that names no edit's concept is unjudged."""
    for index, concept in enumerate(recipe.concepts):
        template = _template(prompt, concept.names)
        if template:
            return _to_forget(spec, recipe, index, prompt, template)
    first = recipe.concepts[0]
    return Question(prompt, first.subject, first.kind, 0, None)


def _asked_to_keep(spec: ModelSpec, recipe: Recipe, prompt: str) -> Question:
    """Return the user's own prompt as a question; one that names nothing known is unjudged."""
    for kind in _edited_kinds_first(recipe):
        for names in neighbours(spec, recipe, kind):
            template = _template(prompt, names)
            if template:
                return _to_keep(spec, recipe, kind, names[0], prompt, template)
    return Question(prompt, prompt, None, None, None)


def _template(prompt: str, names: Names) -> str | None:
    """Return the prompt with a slot for the longest of these names that it holds, or None."""
    for name in sorted(names, key=len, reverse=True):
        words = rf"(?<!\w)(?:(?:a|an|the)\s+)?{re.escape(bare_name(name))}(?!\w)"
        template, n_found = re.subn(words, "{subject}", prompt, flags=re.IGNORECASE)
        if n_found:
            return template
    return None


def _edited_kinds_first(recipe: Recipe) -> list[ConceptKind]:
    edited = {concept.kind for concept in recipe.concepts}
    return sorted(KINDS, key=lambda kind: kind not in edited)
