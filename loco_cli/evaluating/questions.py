"""
The prompts of an evaluation, and the labels among which the judge chooses.

The labels of a prompt are variants of it. The first is the prompt itself. Others replace the
subject with a neighbour or with the edit's target; for a style, one leaves the style out. Other
names of the subject do not count as neighbours.
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
from loco_cli.protocol.wordings import (
    FORGET_TEMPLATES,
    KEEP_TEMPLATES,
    VALIDATE_TEMPLATES,
    bare_name,
    fill,
    without_style,
)
from loco_cli.recipe.record import EditEntry, Recipe

UNRELATED_PROMPTS = "unrelated prompts"  # the concept name of prompts without a concept
N_KEPT_CONCEPTS = 8  # kept concepts in a strength trial, spread evenly over all of them


@dataclass(frozen=True)
class _Labels:
    """
    The labels of a prompt; the first one is the prompt itself and the correct label.

    `target` is the index of the label that the edit aims at, or None if the concept is kept.
    """

    texts: tuple[str, ...]
    target: int | None = None

    def is_target(self, label: int) -> bool | None:
        """
        Return True if this label means that the edit reached its target.

        None if the concept is kept. If the target is the empty prompt, every label except the
        subject is correct, since an empty prompt can draw anything. For 32 pictures that `tiny`
        draws from the empty prompt, the judge picks a thing's name 11 times.
        """
        if self.target is None:
            return None
        return label == self.target if self.texts[self.target] else label != 0


@dataclass(frozen=True)
class Question:
    """
    A prompt to judge: `Question("a cat by monet", "monet", "style", edit=0, labels=...)`.

    `edit` is None if the concept is kept. `labels` is None if the picture is scored only.
    """

    prompt: str
    concept: str
    kind: ConceptKind | None
    edit: int | None
    labels: _Labels | None


def questions(spec: ModelSpec, recipe: Recipe) -> tuple[Question, ...]:
    """
    Return the questions of an evaluation, without repeats.

    Args:
        spec: The model, which determines the known concepts.
        recipe: The recipe of the edit, with the user's own prompts.

    Returns:
        The prompts to forget, in every wording and under every name of a concept. Then the prompts
        to keep: neighbours, things of other kinds, the user's own, and unrelated ones.
    """
    forget = [
        _forget_question(spec, recipe, index, fill(template, "subject", name), template)
        for index, concept in enumerate(recipe.concepts)
        for name in concept.names
        for template in FORGET_TEMPLATES[concept.kind]
    ]
    forget += [_asked_forget_question(spec, recipe, prompt) for prompt in recipe.evaluate.forget]
    keep = [
        _keep_question(spec, recipe, kind, name, fill(template, "subject", name), template)
        for kind, name in _kept_concepts(spec, recipe)
        for template in KEEP_TEMPLATES[kind]
    ]
    keep += [_asked_keep_question(spec, recipe, prompt) for prompt in recipe.evaluate.keep]
    unrelated = everyday_split(spec, recipe).judged
    keep += [Question(prompt, UNRELATED_PROMPTS, None, None, None) for prompt in unrelated]
    return tuple(dict.fromkeys((*forget, *keep)))


def validation_questions(spec: ModelSpec, recipe: Recipe) -> tuple[Question, ...]:
    """
    Return the questions that choose the strength of an edit, without repeats.

    They are disjoint from `questions`, and fewer: each wording uses one name of the concept, in
    turn.

    Args:
        spec: The model, which determines the known concepts.
        recipe: The recipe of the edit.

    Returns:
        The prompts to forget, then one prompt for each of `N_KEPT_CONCEPTS` concepts to keep.
    """
    forget = [
        _forget_question(spec, recipe, index, fill(template, "subject", name), template)
        for index, concept in enumerate(recipe.concepts)
        for template, name in zip(
            VALIDATE_TEMPLATES[concept.kind], cycle(concept.names), strict=False
        )
    ]
    concepts = _kept_concepts(spec, recipe)
    n = min(N_KEPT_CONCEPTS, len(concepts))
    keep = []
    for i, (kind, name) in enumerate(concepts[k * len(concepts) // n] for k in range(n)):
        template = VALIDATE_TEMPLATES[kind][i % len(VALIDATE_TEMPLATES[kind])]
        keep.append(
            _keep_question(spec, recipe, kind, name, fill(template, "subject", name), template)
        )
    return tuple(dict.fromkeys((*forget, *keep)))


def _kept_concepts(spec: ModelSpec, recipe: Recipe) -> tuple[tuple[ConceptKind, str], ...]:
    """
    Return the concepts to keep: neighbours, the preserve list, and a few concepts of other kinds.

    `preserve: auto` preserves every second neighbour and the first known concepts of other kinds.
    The last known concepts are used here, so at least half of the kept ones were not preserved.
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
    Return the labels of a prompt, which fills `template` with one of the `names` of a thing.

    `concept` is the edit's concept, or None if the thing is kept. With `is_swap` the edit's target
    is another style, not a picture without a style.
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


def _forget_question(
    spec: ModelSpec, recipe: Recipe, index: int, prompt: str, template: str
) -> Question:
    concept = recipe.concepts[index]
    names = all_names(concept)
    is_swap = _is_swap(recipe.edits[index])
    labels = _labels_of(
        spec, recipe, concept.kind, prompt, template, names, concept, is_swap=is_swap
    )
    return Question(prompt, concept.subject, concept.kind, index, labels)


def _is_swap(entry: EditEntry) -> bool:
    """Return True if the target prompts of a style are its source prompts with another style."""
    targets = {one.replace("{to}", "{subject}") for one in entry.target}
    alike = targets & set(entry.source) - {"{subject}"}  # a bare name does not identify a style
    return entry.kind == "style" and bool(alike)


def _keep_question(
    spec: ModelSpec, recipe: Recipe, kind: ConceptKind, name: str, prompt: str, template: str
) -> Question:
    labels = _labels_of(spec, recipe, kind, prompt, template, (name,))
    return Question(prompt, name, kind, None, labels)


def _asked_forget_question(spec: ModelSpec, recipe: Recipe, prompt: str) -> Question:
    """Return a question for the user's prompt; it has labels if it names an edited concept."""
    for index, concept in enumerate(recipe.concepts):
        template = _template(prompt, concept.names)
        if template:
            return _forget_question(spec, recipe, index, prompt, template)
    first = recipe.concepts[0]
    return Question(prompt, first.subject, first.kind, 0, None)


def _asked_keep_question(spec: ModelSpec, recipe: Recipe, prompt: str) -> Question:
    """Return a question for the user's prompt; it has labels if it names a known concept."""
    for kind in _edited_kinds_first(recipe):
        for names in neighbours(spec, recipe, kind):
            template = _template(prompt, names)
            if template:
                return _keep_question(spec, recipe, kind, names[0], prompt, template)
    return Question(prompt, prompt, None, None, None)


def _template(prompt: str, names: Names) -> str | None:
    """Replace the longest of `names` in a prompt with a slot; return None if it has none."""
    for name in sorted(names, key=len, reverse=True):
        words = rf"(?<!\w)(?:(?:a|an|the)\s+)?{re.escape(bare_name(name))}(?!\w)"
        template, n_found = re.subn(words, "{subject}", prompt, flags=re.IGNORECASE)
        if n_found:
            return template
    return None


def _edited_kinds_first(recipe: Recipe) -> list[ConceptKind]:
    edited = {concept.kind for concept in recipe.concepts}
    return sorted(KINDS, key=lambda kind: kind not in edited)
