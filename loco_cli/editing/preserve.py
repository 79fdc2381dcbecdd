"""
The preserve set of an edit: the neighbours of its concepts, and prompts that mention them.

The neighbours of a concept are the other things of its kind. `preserve: auto` ranks them by
similarity and takes every second one. The rest are about as similar, so an evaluation can use them
to measure the damage to things that nobody asked to preserve.

Plans need the neighbours too, so this module imports torch only for the ranking.
"""

from collections.abc import Collection, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from loco_cli.concept import KINDS, Concept, ConceptKind, same_name
from loco_cli.families.spec import ModelSpec
from loco_cli.protocol.everyday import EverydayPrompts, split_everyday
from loco_cli.protocol.wordings import EDIT_TEMPLATES, PRESERVE_TEMPLATES, bare_name, fill
from loco_cli.recipe.record import Recipe

if TYPE_CHECKING:
    from loco_cli.encoders.encode import TextEncoder


MAX_PRESERVED = 8  # neighbours of one concept that `preserve: auto` takes
N_OTHER_KINDS = 3  # known concepts of each unedited kind that an evaluation tests
# evidence for both padding limits: 14 edits of 3 styles of `tiny`, the share of held-out prompts
# whose values are nearest to those of their target. 4 wordings give 98.7 % (1: 97.7 %, 2: 98.2 %,
# 5: 98.7 %); 1 and 8 neighbours give the same as 4
_N_PADDED_WORDINGS = 4  # wordings of an edit that are rows up to the last padding token
_N_PADDED_NEIGHBOURS = 4  # neighbours of a concept that are rows up to the last padding token
_N_OTHERS = 4  # known concepts of each unedited kind that are preserved
_MAX_NAME_WORDS = 3  # a longer entry that the model's list does not contain is a prompt

Names = tuple[str, ...]  # all names of one thing
Preserved = tuple[ConceptKind | None, str]  # kind and name of a thing; a prompt has no kind


def preserve_set(spec: ModelSpec, recipe: Recipe, encoder: "TextEncoder") -> tuple[Preserved, ...]:
    """
    Choose the things to preserve.

    Args:
        spec: The model, with the things that it is known to draw.
        recipe: The recipe; its `preserve` is `none`, a list, or `auto`.
        encoder: The text encoder that ranks neighbours for `auto`.

    Returns:
        Kind and name of each preserved subject. With several concepts, `auto` takes one neighbour
        of each in turn.
    """
    if recipe.preserve == "none":
        return ()
    if recipe.preserve == "auto":
        by_concept: list[list[Preserved]] = []
        for concept in recipe.concepts:
            names = [thing[0] for thing in neighbours(spec, recipe, concept.kind)]
            near = _nearest_first(concept.subject, names, encoder)
            by_concept.append([(concept.kind, name) for name in near[::2][:MAX_PRESERVED]])
        in_turns = (thing for turn in zip_longest(*by_concept) for thing in turn if thing)
        return tuple(dict.fromkeys(in_turns))
    return tuple(
        (kind, entry)
        for entry in recipe.preserve
        for kind in _kinds_of(spec, recipe, entry) or (None,)
    )


def preserved_prompts(
    spec: ModelSpec,
    recipe: Recipe,
    preserved: Sequence[Preserved],
    edits: Collection[int] | None = None,
) -> tuple[str, ...]:
    """
    Return the prompts that keep their keys and values.

    These are the neighbours in all wordings of the edit, the target prompts, the empty prompt that
    guidance uses, and a few things of every unedited kind. The ridge form adds everyday prompts;
    the null-space form has no directions left for them. An edited prompt is never preserved.

    Args:
        spec: The model, with the things that it is known to draw.
        recipe: The recipe with its edits.
        preserved: The things to preserve, from `preserve_set`.
        edits: The indices of the edits that share a tensor, None for all. Neighbours of other edits
            are left out unless the recipe lists them, because they would only restrict the solve.

    Returns:
        The prompts, each once.
    """
    if recipe.preserve == "none":
        return ()
    concepts = recipe.concepts
    edits = range(len(concepts)) if edits is None else edits
    kinds = {concepts[i].kind for i in edits}
    prompts = ["", *(pair.target for i in edits for pair in recipe.edits[i].edit_pairs)]
    for kind, name in preserved:
        if recipe.preserve != "auto" or kind in kinds:
            prompts += [name] if kind is None else _wordings(kind, name, recipe)
    edited = {concept.kind for concept in concepts}
    for other in (kind for kind in spec.known_concepts if kind not in edited and kind != "style"):
        things = [names[0] for names in spec.known_concepts[other][:_N_OTHERS]]
        prompts += [
            fill(wording, "subject", name) for name in things for wording in PRESERVE_TEMPLATES
        ]
    if recipe.edit.preserve_form == "ridge":
        prompts += everyday_split(spec, recipe).preserved
    sources = {pair.source for entry in recipe.edits for pair in entry.edit_pairs}
    return tuple(prompt for prompt in dict.fromkeys(prompts) if prompt not in sources)


def fully_padded_prompts(recipe: Recipe, preserved: Sequence[Preserved]) -> frozenset[str]:
    """
    Return the prompts whose padding tokens are rows of the system; the others stop at their end
    token.

    Padding fills most positions of a prompt and differs little between wordings, so a few prompts
    represent all of them. These are the first wordings of every edit with their targets, the empty
    prompt, the first wording of the preserved things, and listed prompts. `preserve: auto` counts
    only the nearest neighbours here.
    """
    padded: set[str] = set()
    for entry in recipe.edits:
        pairs = entry.edit_pairs
        n_wordings = len(pairs) // len(entry.concept.names)
        first = [pair for i, pair in enumerate(pairs) if i % n_wordings < _N_PADDED_WORDINGS]
        if recipe.edit.tokens != "last-subject":
            padded |= {prompt for pair in first for prompt in (pair.source, pair.target)}
        elif recipe.preserve != "none":
            padded |= {pair.target for pair in first}
    if recipe.preserve == "none":
        return frozenset(padded)
    if recipe.preserve == "auto":
        preserved = preserved[: _N_PADDED_NEIGHBOURS * len(recipe.edits)]
    first_wordings = (
        name if kind is None else _wordings(kind, name, recipe)[0] for kind, name in preserved
    )
    return frozenset({"", *padded, *first_wordings})


def neighbours(spec: ModelSpec, recipe: Recipe, kind: ConceptKind) -> tuple[Names, ...]:
    """
    Return all names of each thing of a kind that no edit is about.

    The things of the preserve list come first, under their name there, then those that the model is
    known to draw. Aliases and the former answer of a concept are names of the concept, so they are
    not neighbours.
    """
    edited = [concept for concept in recipe.concepts if concept.kind == kind]
    others: list[Names] = []
    for names in (*listed_things(spec, recipe, kind), *spec.known_concepts.get(kind, ())):
        is_edited = any(concept.is_named(name) for concept in edited for name in names)
        if not is_edited and not any(share_a_name(names, other) for other in others):
            others.append(names)
    return tuple(others)


def listed_things(spec: ModelSpec, recipe: Recipe, kind: ConceptKind) -> tuple[Names, ...]:
    """Return all names of each thing of a kind in the preserve list, the listed name first."""
    entries = recipe.preserve if isinstance(recipe.preserve, tuple) else ()
    return tuple(
        (entry, *_known_as(spec, kind, entry))
        for entry in entries
        if kind in _kinds_of(spec, recipe, entry)
    )


def _kinds_of(spec: ModelSpec, recipe: Recipe, entry: str) -> tuple[ConceptKind, ...]:
    """
    Return the kinds of an entry of the preserve list, or none for a prompt.

    A known thing has one kind. Any other short entry counts as every kind that the recipe edits.
    """
    for kind in KINDS:
        if _known_as(spec, kind, entry):
            return (kind,)
    if len(bare_name(entry).split()) > _MAX_NAME_WORDS:
        return ()
    return tuple(dict.fromkeys(concept.kind for concept in recipe.concepts))


def all_names(concept: Concept) -> Names:
    """Return all names of a concept, including the former answer of a fact."""
    return (*concept.names, *((concept.was,) if concept.was else ()))


def share_a_name(names: Names, others: Names) -> bool:
    """Return True if two things share a name."""
    return any(same_name(mine, theirs) for mine in names for theirs in others)


def edited_names(recipe: Recipe) -> tuple[str, ...]:
    """Return all names of the edited concepts and of their targets."""
    return tuple(name for concept in recipe.concepts for name in (*concept.names, concept.to))


def everyday_split(spec: ModelSpec, recipe: Recipe) -> EverydayPrompts:
    """Split the everyday prompts for a recipe into preserved ones, drift probes and judged ones."""
    concepts = recipe.concepts
    near = [name for concept in concepts for name in (*all_names(concept), concept.to)]
    for kind in dict.fromkeys(concept.kind for concept in concepts):
        near += [name for thing in neighbours(spec, recipe, kind) for name in thing]
    tested = [thing for kind in KINDS for thing in neighbours(spec, recipe, kind)[-N_OTHER_KINDS:]]
    preserved = recipe.preserve if isinstance(recipe.preserve, tuple) else ()
    return split_everyday(
        edited=edited_names(recipe),
        near=[bare_name(name) for name in near],
        tested=[bare_name(name) for thing in tested for name in thing],
        listed=(*preserved, *recipe.evaluate.keep, *recipe.evaluate.forget),
    )


def _wordings(kind: ConceptKind, name: str, recipe: Recipe) -> list[str]:
    asked = [template for entry in recipe.edits if entry.kind == kind for template in entry.source]
    return [fill(template, "subject", name) for template in asked or EDIT_TEMPLATES[kind]]


def _nearest_first(subject: str, names: Sequence[str], encoder: "TextEncoder") -> list[str]:
    """
    Sort names by the cosine of their end state with the subject's, largest first.

    Only the first text encoder runs: the second one of SDXL is six times as large.
    """
    import torch

    if not names:
        return []
    encoded = encoder.first.encode([subject, *names], padded=False)
    states = torch.stack([prompt.states[prompt.end] for prompt in encoded])
    unit = torch.nn.functional.normalize(states, dim=-1)
    order = (unit[1:] @ unit[0]).argsort(descending=True, stable=True)
    return [names[i] for i in order.tolist()]


def _known_as(spec: ModelSpec, kind: ConceptKind, name: str) -> Names:
    """Return all known names of a thing, none if the model is not known to draw it."""
    known = (names for names in spec.known_concepts.get(kind, ()) if share_a_name((name,), names))
    return next(known, ())
