"""The search for the layers of every concept: a range, or a set if no range suffices."""

from collections.abc import Callable

from loco_cli.layers import LayerSet
from loco_cli.localization import Localization, LocalizationRun
from loco_cli.localizing import sets
from loco_cli.localizing.cache import trim
from loco_cli.localizing.runs import RunRecorder, SearchContext, candidates_of
from loco_cli.localizing.search import FastSearch
from loco_cli.models.locate import LocatedModel
from loco_cli.plan import PlannedRuns
from loco_cli.recipe.record import LocalizeSettings, Recipe


def find_layers(
    context: SearchContext,
    recipe: Recipe,
    find_range: Callable[[RunRecorder], LocalizationRun],
    rank_layers: Callable[[FastSearch], list[float]],
    *,
    allows_sets: bool,
) -> tuple[LocalizationRun, ...]:
    """
    Find the layers of each edit's concept.

    Args:
        context: The loaded model and its scorer.
        recipe: The recipe, with the concepts and the settings.
        find_range: The method's search for a range.
        rank_layers: The method's ranking: a value for each layer, larger for more likely ones.
        allows_sets: Search for a set of layers if no range has the required effect.

    Returns:
        One localization for each edit of the recipe.
    """
    found = []
    for entry in recipe.edits:
        runs = RunRecorder.of(context, entry, recipe.localize)
        if recipe.localize.window == "set":
            search = FastSearch(runs)
            found.append(sets.find_set(search, rank_layers(search)))
            continue
        run = find_range(runs)
        is_set_wanted = (
            allows_sets and recipe.localize.allows_sets and runs.board.is_scale_significant
        )
        if is_set_wanted and not run.localization.is_accepted(recipe.localize.effect):
            ranking = run.localization.ranking or _single_effects(run.localization)
            run = sets.find_set(FastSearch(runs), ranking, run.localization.seconds)
        found.append(run)
    if context.cache and context.team.is_first:
        trim()
    return tuple(found)


def cost_of_search(
    located: LocatedModel,
    recipe: Recipe,
    n_range_images: Callable[[LocalizeSettings, int, int], int],  # settings, n_layers, n_prompts
    n_replayed: Callable[[LocalizeSettings, int, int], int],  # settings, n_layers, n_steps
    *,
    allows_sets: bool,
) -> PlannedRuns:
    """
    Return the upper limit of the cost of finding the layers of every edit.

    Args:
        located: The model.
        recipe: The recipe, with the concepts and the settings.
        n_range_images: Returns the upper limit of pictures for one concept's range.
        n_replayed: Returns the UNet evaluations per prompt that rank the layers.
        allows_sets: Include the search for a set of layers.
    """
    settings, n_layers = recipe.localize, located.spec.n_layers
    sampling = located.spec.sampling(settings.steps, settings.guidance)
    n_images = n_ranked = 0
    for entry in recipe.edits:
        n_prompts = len(entry.localize_pairs)
        if settings.window == "set" or (allows_sets and settings.allows_sets):
            n_images += sets.max_images(n_prompts, n_prompts * settings.seeds)
        if settings.window != "set":
            n_images += n_range_images(settings, n_layers, n_prompts)
        n_ranked += n_prompts * n_replayed(settings, n_layers, sampling[0])
    drawn = PlannedRuns.of(n_images, sampling)
    evaluations = drawn.unet_evaluations + n_ranked
    return drawn.model_copy(update={"unet_evaluations": evaluations})


def cost_of_layers(
    located: LocatedModel, recipe: Recipe, layers_of: tuple[LayerSet, ...]
) -> PlannedRuns:
    """Return the cost of scoring given layers, with the originals and the full swaps."""
    settings, n_layers = recipe.localize, located.spec.n_layers
    n_images = sum(
        len(candidates_of([layers], n_layers)) * len(entry.localize_pairs) * settings.seeds
        for entry, layers in zip(recipe.edits, layers_of, strict=True)
    )
    return PlannedRuns.of(n_images, located.spec.sampling(settings.steps, settings.guidance))


def _single_effects(found: Localization) -> tuple[float, ...]:
    """Return the effect of each single layer in a sweep that includes width 1."""
    return tuple(score.effect or 0.0 for score in found.scores if len(score.layer_set) == 1)
