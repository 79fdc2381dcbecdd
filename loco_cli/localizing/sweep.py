"""The layers of every concept of a recipe: a range, or a set where no range is enough."""

from loco_cli.events import SILENT, Events
from loco_cli.layers import LayerSet
from loco_cli.localization import Localization, LocalizationRun
from loco_cli.localizing import contribution, locogen
from loco_cli.localizing.cache import trim
from loco_cli.localizing.checks import check_localize, scored_layers
from loco_cli.localizing.runs import RunRecorder, SearchContext
from loco_cli.localizing.search import FastSearch
from loco_cli.localizing.sets import find_set
from loco_cli.models.locate import LocatedModel
from loco_cli.models.session import RunOptions
from loco_cli.models.tokenizers import check_subjects
from loco_cli.recipe import EditEntry, LocalizeSettings, Recipe


def run(
    located: LocatedModel,
    recipe: Recipe,
    machine: RunOptions,
    events: Events = SILENT,
    *,
    may_scatter: bool = False,
) -> tuple[LocalizationRun, ...]:
    """
    Return one sweep for each edit of the recipe; the model is loaded once.

    With `may_scatter` a set of layers is looked for where no range is enough.
    """
    check(located, recipe)
    machine.team.join()
    return run_on(SearchContext.load(located, machine, events), recipe, may_scatter=may_scatter)


def check(located: LocatedModel, recipe: Recipe) -> None:
    """Raise where the sweeps of a recipe cannot be made as asked."""
    check_localize(located, recipe.localize)
    check_subjects(located, (pair for entry in recipe.edits for pair in entry.localize_pairs))


def run_on(
    context: SearchContext, recipe: Recipe, *, may_scatter: bool = False
) -> tuple[LocalizationRun, ...]:
    """Return one sweep for each edit of the recipe, on what is loaded."""
    named = scored_layers(context.located, recipe)
    found = tuple(
        score_layers(context, entry, recipe.localize, named[i])
        if named
        else localize(context, entry, recipe.localize, may_scatter=may_scatter)
        for i, entry in enumerate(recipe.edits)
    )
    if context.cache and context.team.is_first:
        trim()
    return found


def localize(
    context: SearchContext,
    entry: EditEntry,
    settings: LocalizeSettings,
    *,
    may_scatter: bool = False,
) -> LocalizationRun:
    """Return the layers of one concept, found in the way that the settings name."""
    runs = RunRecorder.of(context, entry, settings)
    method = contribution if settings.method == "contribution" else locogen
    if settings.window == "set":
        search = FastSearch(runs)
        return find_set(search, method.rank_layers(search))
    run = method.find_range(runs)
    found = run.localization
    if not may_scatter or not settings.may_scatter or found.is_enough(settings.effect):
        return run
    if not runs.board.is_known:
        return run
    ranking = found.ranking or _single_effects(found)
    return find_set(FastSearch(runs), ranking, found.seconds)


def score_layers(
    context: SearchContext, entry: EditEntry, settings: LocalizeSettings, layers: LayerSet
) -> LocalizationRun:
    """Return the score of layers that are named, on every prompt and seed; none are looked for."""
    # of a single candidate all is tried
    settings = settings.model_copy(update={"search": "exhaustive"})
    return locogen.score_layers(RunRecorder.of(context, entry, settings), layers)


def _single_effects(found: Localization) -> tuple[float, ...]:
    """Return what each layer does alone, of a sweep that tried them all."""
    return tuple(score.effect or 0.0 for score in found.scores if len(score.layer_set) == 1)
