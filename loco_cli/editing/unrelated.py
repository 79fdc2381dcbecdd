"""Everyday prompts that a recipe is not about: others to keep, to foretell by and to judge by."""

from collections.abc import Collection

from loco_cli.concept import KINDS, bare_name
from loco_cli.editing.neighbours import N_OTHER_KINDS, names_of, neighbours
from loco_cli.families.spec import ModelSpec
from loco_cli.protocol.everyday import (
    N_JUDGED,
    N_PRESERVED,
    about_others,
    naming_none,
    unrelated_prompts,
)
from loco_cli.recipe import Recipe


def drift_prompts(recipe: Recipe, kept: Collection[str]) -> tuple[str, ...]:
    """Return the prompts by which an edit that keeps others foretells what it does to all else."""
    return about_others(_to_foretell(recipe), kept)


def judged_prompts(spec: ModelSpec, recipe: Recipe) -> tuple[str, ...]:
    """Return prompts to make pictures of: no edit reads their like, and they name no neighbour."""
    return about_others(_to_judge(spec, recipe), everyday_prompts(spec, recipe))


def everyday_prompts(spec: ModelSpec, recipe: Recipe) -> tuple[str, ...]:
    """Return prompts that an edit keeps for the sake of all others; they name nothing judged."""
    others = (*_asked(recipe), *_to_foretell(recipe), *_to_judge(spec, recipe))
    found = unrelated_prompts(_near(spec, recipe), N_PRESERVED, but=others)
    asked = [thing for kind in KINDS for thing in neighbours(spec, recipe, kind)[-N_OTHER_KINDS:]]
    return naming_none(found, [bare_name(name) for thing in asked for name in thing])


def _to_foretell(recipe: Recipe) -> tuple[str, ...]:
    """Return what is read where nothing is kept."""
    return unrelated_prompts([name for one in recipe.concepts() for name in (*one.names, one.to)])


def _to_judge(spec: ModelSpec, recipe: Recipe) -> tuple[str, ...]:
    """Return what is judged where nothing is kept."""
    return unrelated_prompts(
        _near(spec, recipe), N_JUDGED, but=(*_asked(recipe), *_to_foretell(recipe))
    )


def _near(spec: ModelSpec, recipe: Recipe) -> list[str]:
    """Return all names of what the recipe edits and of its neighbours."""
    concepts = recipe.concepts()
    named = [name for one in concepts for name in (*names_of(one), one.to)]
    for kind in dict.fromkeys(one.kind for one in concepts):
        named += [name for thing in neighbours(spec, recipe, kind) for name in thing]
    return [bare_name(name) for name in named]


def _asked(recipe: Recipe) -> tuple[str, ...]:
    """Return the prompts that the recipe itself lists, to keep or to be judged by."""
    listed = recipe.preserve if isinstance(recipe.preserve, tuple) else ()
    return (*listed, *recipe.evaluate.keep, *recipe.evaluate.forget)
