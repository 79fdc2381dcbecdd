"""
What an edit must leave alone: the neighbours of its concepts, and the prompts that speak of them.

The neighbours of a concept are the other things of its kind that a picture may show. `preserve:
auto` takes every other one, nearest first, so that those it leaves out are as near as those it
takes, and can show in an evaluation what nobody asked to preserve.

Plans ask for neighbours too, so that torch is imported only where they are ranked.
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


MAX_PRESERVED = 8  # neighbours of one concept in `preserve: auto`
N_OTHER_KINDS = 3  # known concepts of each kind that is not edited, to be asked after
# after fourteen edits of three styles of `tiny`, the values of 0.987 of the prompts in other words
# were nearest to those of what they should be: with one wording padded 0.977, with two 0.982, with
# five as many; with one neighbour or eight as many too
_N_PADDED_WORDINGS = 4  # wordings of an edit that count to the last position
_N_PADDED_NEIGHBOURS = 4  # nearest neighbours of a concept that count to the last position
_N_OTHERS = 4  # known concepts of each other kind that are preserved
_MAX_WORDS_OF_A_NAME = 3  # of what the model's list does not hold; more are taken for a prompt

Names = tuple[str, ...]  # all names of one thing
Preserved = tuple[ConceptKind | None, str]  # what it is, and its name; a prompt has no kind


def preserve_set(spec: ModelSpec, recipe: Recipe, encoder: "TextEncoder") -> tuple[Preserved, ...]:
    """Return the things to preserve: none, those that a recipe lists, or every other neighbour."""
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
    Return the prompts whose embeddings keep their keys and values, each once.

    Of every neighbour all wordings in which the concept itself is edited; the target prompts; a
    few things of every kind that is not edited; the empty prompt, which guidance reads; and
    everyday prompts, which the null-space form has no directions left for. A prompt that is edited
    is never among them. `edits` are those that share a tensor, by default all: what stands near
    edits of other kinds is not preserved there, where it would only be in the way.
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
    Return the prompts that count to the last of their positions; others count to their end token.

    What follows the end token is padding, most of a prompt's positions and much alike in all of
    its wordings, so that a few prompts speak for the others: the first wordings of every edit with
    their targets, the empty prompt, the first wording of the nearest neighbours or of all that
    the recipe lists, and listed prompts.
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
    Return every thing of a kind that no edit speaks of, all names of each, each thing once.

    First those of the preserve list, as they are called there, then what the model is known to
    draw. A concept's aliases and its former answer are the concept itself, and no neighbours.
    """
    edited = [concept for concept in recipe.concepts if concept.kind == kind]
    others: list[Names] = []
    for names in (*listed_things(spec, recipe, kind), *spec.known_concepts.get(kind, ())):
        is_edited = any(concept.is_named(name) for concept in edited for name in names)
        if not is_edited and not any(share_a_name(names, other) for other in others):
            others.append(names)
    return tuple(others)


def listed_things(spec: ModelSpec, recipe: Recipe, kind: ConceptKind) -> tuple[Names, ...]:
    """Return the things of a kind in the preserve list, as they are called there first."""
    entries = recipe.preserve if isinstance(recipe.preserve, tuple) else ()
    return tuple(
        (entry, *_known_as(spec, kind, entry))
        for entry in entries
        if kind in _kinds_of(spec, recipe, entry)
    )


def _kinds_of(spec: ModelSpec, recipe: Recipe, entry: str) -> tuple[ConceptKind, ...]:
    """
    Return the kinds that an entry of the preserve list is a name of; none where it is a prompt.

    A thing that the model knows has its kind. Other short words name something of every kind that
    the recipe edits.
    """
    for kind in KINDS:
        if _known_as(spec, kind, entry):
            return (kind,)
    if len(bare_name(entry).split()) > _MAX_WORDS_OF_A_NAME:
        return ()
    return tuple(dict.fromkeys(concept.kind for concept in recipe.concepts))


def all_names(concept: Concept) -> Names:
    """Return all names of a concept, its former answer among them."""
    return (*concept.names, *((concept.was,) if concept.was else ()))


def share_a_name(names: Names, others: Names) -> bool:
    """Return True if two things share a name."""
    return any(same_name(mine, theirs) for mine in names for theirs in others)


def edited_names(recipe: Recipe) -> tuple[str, ...]:
    """Return all names that the edits are about, and what each becomes."""
    return tuple(name for concept in recipe.concepts for name in (*concept.names, concept.to))


def everyday_split(spec: ModelSpec, recipe: Recipe) -> EverydayPrompts:
    """Return the everyday prompts of a recipe's edit: preserved, for its drift, and judged."""
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
    Return names by the cosine of their end states with the subject's, nearest first.

    Of several encoders the first is asked: the second of SDXL has six times its numbers to read.
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
    """Return all names under which the model knows a thing, none if it does not."""
    known = (names for names in spec.known_concepts.get(kind, ()) if share_a_name((name,), names))
    return next(known, ())
