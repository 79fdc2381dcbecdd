"""
What an edit must leave alone: the neighbours of its concepts, and the prompts that speak of them.

`preserve: auto` takes every other neighbour of the concept's kind, nearest first, so that those it
leaves out are as near as those it takes, and can show in an evaluation what nobody asked to keep.
"""

from collections.abc import Collection, Iterable, Sequence
from itertools import zip_longest

import torch

from loco_cli.concept import ConceptKind
from loco_cli.editing.neighbours import everyday_split, kinds_of, neighbours
from loco_cli.encoders.encode import TextEncoder
from loco_cli.families.spec import ModelSpec
from loco_cli.protocol.wordings import EDIT, PRESERVE, fill
from loco_cli.recipe import Recipe

MAX_PRESERVED = 8  # neighbours of one concept in `preserve: auto`
# wordings of an edit, and its nearest neighbours, that count to the last position. After fourteen
# edits of three styles of `tiny`, the values of 0.987 of the prompts in other words were nearest to
# those of what they should be: with one wording whole 0.977, with two 0.982, with five as many;
# with one neighbour or eight as many too
WHOLE_WORDINGS = 4
WHOLE_NEIGHBOURS = 4
N_OTHERS = 4  # known concepts of each other kind that stay as they are

Preserved = tuple[ConceptKind | None, str]  # what it is, and its name; a prompt has no kind


def chosen_neighbours(
    spec: ModelSpec, recipe: Recipe, encoder: TextEncoder
) -> tuple[Preserved, ...]:
    """Return what to preserve: nothing, what the recipe lists, or every other neighbour."""
    if recipe.preserve == "none":
        return ()
    if recipe.preserve == "auto":
        found: list[list[Preserved]] = []
        for concept in recipe.concepts:
            names = [thing[0] for thing in neighbours(spec, recipe, concept.kind)]
            near = _nearest_first(concept.subject, names, encoder)
            found.append([(concept.kind, name) for name in near[::2][:MAX_PRESERVED]])
        in_turns = (one for turn in zip_longest(*found) for one in turn if one)
        return tuple(dict.fromkeys(in_turns))
    return tuple(
        (kind, entry)
        for entry in recipe.preserve
        for kind in kinds_of(spec, recipe, entry) or (None,)
    )


def preserved_prompts(
    spec: ModelSpec,
    recipe: Recipe,
    chosen: Sequence[Preserved],
    edits: Collection[int] | None = None,
) -> tuple[str, ...]:
    """
    Return the prompts whose embeddings keep their keys and values, each once.

    Of every neighbour all wordings in which the concept itself is edited; the target prompts; a
    few things of every kind that is not edited; the empty prompt, which guidance reads; and
    everyday prompts, which the null-space form has no directions left for. A prompt that is edited
    is never among them. `edits` are those that share a tensor, by default all: what stands near
    edits of other kinds is not kept there, where it would only be in the way.
    """
    if recipe.preserve == "none":
        return ()
    concepts = recipe.concepts
    own = range(len(concepts)) if edits is None else edits
    kinds = {concepts[i].kind for i in own}
    prompts = ["", *(pair.target for i in own for pair in recipe.edits[i].edit_pairs)]
    for kind, name in chosen:
        if recipe.preserve != "auto" or kind in kinds:
            prompts += [name] if kind is None else _wordings(kind, name, recipe)
    edited = {concept.kind for concept in concepts}
    for other in (kind for kind in spec.known if kind not in edited and kind != "style"):
        things = [names[0] for names in spec.known[other][:N_OTHERS]]
        prompts += [fill(one, "subject", name) for name in things for one in PRESERVE]
    if recipe.edit.preserve_form == "ridge":
        prompts += everyday_split(spec, recipe).preserved
    sources = {pair.source for entry in recipe.edits for pair in entry.edit_pairs}
    return tuple(prompt for prompt in dict.fromkeys(prompts) if prompt not in sources)


def preserved_together(
    spec: ModelSpec,
    recipe: Recipe,
    chosen: Sequence[Preserved],
    shared: Iterable[tuple[int, ...]],
) -> dict[tuple[int, ...], tuple[str, ...]]:
    """Return what is preserved for each of these sets of edits, which share tensors each."""
    return {
        edits: preserved_prompts(spec, recipe, chosen, edits) for edits in dict.fromkeys(shared)
    }


def fully_padded_prompts(recipe: Recipe, chosen: Sequence[Preserved]) -> frozenset[str]:
    """
    Return the prompts that count to the last of their positions; others count to their end token.

    What follows the end token is padding, most of a prompt's positions and much alike in all of
    its wordings, so that a few prompts speak for the others: the first wordings of every edit with
    their targets, the empty prompt, the first wording of the nearest neighbours or of all that
    the recipe lists, and listed prompts.
    """
    whole: set[str] = set()
    for entry in recipe.edits:
        pairs = entry.edit_pairs
        n_wordings = len(pairs) // len(entry.concept.names)
        first = [pair for i, pair in enumerate(pairs) if i % n_wordings < WHOLE_WORDINGS]
        if recipe.edit.tokens != "last-subject":
            whole |= {prompt for pair in first for prompt in (pair.source, pair.target)}
        elif recipe.preserve != "none":
            whole |= {pair.target for pair in first}
    if recipe.preserve == "none":
        return frozenset(whole)
    if recipe.preserve == "auto":
        chosen = chosen[: WHOLE_NEIGHBOURS * len(recipe.edits)]
    bare = (name if kind is None else _wordings(kind, name, recipe)[0] for kind, name in chosen)
    return frozenset({"", *whole, *bare})


def _wordings(kind: ConceptKind, name: str, recipe: Recipe) -> list[str]:
    own = [template for entry in recipe.edits if entry.kind == kind for template in entry.source]
    return [fill(template, "subject", name) for template in own or EDIT[kind]]


def _nearest_first(subject: str, names: Sequence[str], encoder: TextEncoder) -> list[str]:
    """
    Return names by the cosine of their end states with the subject's, nearest first.

    Of several encoders the first is asked: the second of SDXL has six times its numbers to read.
    """
    if not names:
        return []
    encoded = encoder.first.encode([subject, *names], padded=False)
    states = torch.stack([found.states[found.end] for found in encoded])
    unit = torch.nn.functional.normalize(states, dim=-1)
    order = (unit[1:] @ unit[0]).argsort(descending=True, stable=True)
    return [names[i] for i in order.tolist()]
