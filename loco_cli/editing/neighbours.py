"""What stands near a concept: the other things of its kind that a picture may show."""

from loco_cli.concept import KINDS, Concept, ConceptKind, bare_name, same_name
from loco_cli.families.spec import ModelSpec
from loco_cli.protocol.everyday import EverydaySplit, split_everyday
from loco_cli.recipe import Recipe

N_OTHER_KINDS = 3  # known concepts of each kind that is not edited, to be asked after
MAX_WORDS_OF_A_NAME = 3  # of what the model's list does not hold; more are taken for a prompt

Names = tuple[str, ...]  # all names of one thing


def neighbours(spec: ModelSpec, recipe: Recipe, kind: ConceptKind) -> tuple[Names, ...]:
    """
    Return every thing of a kind that no edit speaks of, all names of each, each thing once.

    First those of the preserve list, as they are called there, then what the model is known to
    draw. A concept's aliases and its former answer are the concept itself, and no neighbours.
    """
    edited = [names_of(concept) for concept in recipe.concepts if concept.kind == kind]
    found: list[Names] = []
    for names in (*listed(spec, recipe, kind), *spec.known.get(kind, ())):
        if not any(is_same(names, other) for other in (*edited, *found)):
            found.append(names)
    return tuple(found)


def listed(spec: ModelSpec, recipe: Recipe, kind: ConceptKind) -> tuple[Names, ...]:
    """Return the things of a kind in the preserve list, as they are called there first."""
    entries = recipe.preserve if isinstance(recipe.preserve, tuple) else ()
    return tuple(
        (entry, *_known_as(spec, kind, entry))
        for entry in entries
        if kind in kinds_of(spec, recipe, entry)
    )


def kinds_of(spec: ModelSpec, recipe: Recipe, entry: str) -> tuple[ConceptKind, ...]:
    """
    Return what an entry of the preserve list is a name of; nothing where it is a prompt.

    A thing that the model knows has its kind. Other short words name something of every kind that
    the recipe edits.
    """
    for kind in KINDS:
        if _known_as(spec, kind, entry):
            return (kind,)
    if len(bare_name(entry).split()) > MAX_WORDS_OF_A_NAME:
        return ()
    return tuple(dict.fromkeys(concept.kind for concept in recipe.concepts))


def names_of(concept: Concept) -> Names:
    """Return all names of a concept, its former answer among them."""
    return (*concept.names, *((concept.was,) if concept.was else ()))


def is_same(one: Names, other: Names) -> bool:
    """Whether two things share a name."""
    return any(same_name(mine, theirs) for mine in one for theirs in other)


def edited_names(recipe: Recipe) -> tuple[str, ...]:
    """Return all names that the edits are about, and what each becomes."""
    return tuple(name for one in recipe.concepts for name in (*one.names, one.to))


def everyday_split(spec: ModelSpec, recipe: Recipe) -> EverydaySplit:
    """Return the everyday prompts of a recipe's edit: preserved, for its drift, and judged."""
    concepts = recipe.concepts
    near = [name for one in concepts for name in (*names_of(one), one.to)]
    for kind in dict.fromkeys(one.kind for one in concepts):
        near += [name for thing in neighbours(spec, recipe, kind) for name in thing]
    tested = [thing for kind in KINDS for thing in neighbours(spec, recipe, kind)[-N_OTHER_KINDS:]]
    preserved = recipe.preserve if isinstance(recipe.preserve, tuple) else ()
    return split_everyday(
        edited=edited_names(recipe),
        near=[bare_name(name) for name in near],
        tested=[bare_name(name) for thing in tested for name in thing],
        listed=(*preserved, *recipe.evaluate.keep, *recipe.evaluate.forget),
    )


def _known_as(spec: ModelSpec, kind: ConceptKind, name: str) -> Names:
    """Return all names under which the model knows a thing, none if it does not."""
    known = (names for names in spec.known.get(kind, ()) if is_same((name,), names))
    return next(known, ())
