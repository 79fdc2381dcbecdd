"""Everyday prompts that a recipe is not about: others to keep, to foretell by and to judge by."""

from loco_cli.concept import bare_name
from loco_cli.models.spec import ModelSpec
from loco_cli.recipe import Recipe
from loco_cli.unrelated import N_JUDGED, N_PRESERVED, unrelated_prompts
from loco_cli.workflows.prompts.neighbours import names_of, neighbours


def read_prompts(recipe: Recipe) -> tuple[str, ...]:
    """Return the prompts by which an edit foretells what it does to all else."""
    return unrelated_prompts([name for one in recipe.concepts() for name in (*one.names, one.to)])


def judged_prompts(spec: ModelSpec, recipe: Recipe) -> tuple[str, ...]:
    """Return prompts to make pictures of: no edit has read them, and they name no neighbour."""
    but = (*_asked(recipe), *read_prompts(recipe))
    return unrelated_prompts(_all_names(spec, recipe), N_JUDGED, but=but)


def everyday_prompts(spec: ModelSpec, recipe: Recipe) -> tuple[str, ...]:
    """Return prompts that an edit keeps for the sake of all others; they name no neighbour."""
    others = (*_asked(recipe), *read_prompts(recipe), *judged_prompts(spec, recipe))
    return unrelated_prompts(_all_names(spec, recipe), N_PRESERVED, but=others)


def _all_names(spec: ModelSpec, recipe: Recipe) -> list[str]:
    concepts = recipe.concepts()
    named = [name for one in concepts for name in (*names_of(one), one.to)]
    for kind in dict.fromkeys(one.kind for one in concepts):
        named += [name for thing in neighbours(spec, recipe, kind) for name in thing]
    return [bare_name(name) for name in named]


def _asked(recipe: Recipe) -> tuple[str, ...]:
    """Return the prompts that the recipe itself lists, to keep or to be judged by."""
    listed = recipe.preserve if isinstance(recipe.preserve, tuple) else ()
    return (*listed, *recipe.evaluate.keep, *recipe.evaluate.forget)
