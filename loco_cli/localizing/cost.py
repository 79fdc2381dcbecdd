"""What it takes to find the layers of a concept, before any picture is made."""

from loco_cli.localizing import contribution, fast, sets
from loco_cli.localizing.checks import scored_layers
from loco_cli.localizing.runs import candidates_of, widths_of, windows_of
from loco_cli.models.locate import LocatedModel
from loco_cli.plan import PlannedRuns
from loco_cli.recipe import LocalizeSettings, Recipe


def price(located: LocatedModel, recipe: Recipe, *, may_scatter: bool = False) -> PlannedRuns:
    """
    Return what it takes, at most, to find the layers of every edit.

    With `may_scatter` a set is looked for where no range is enough.
    """
    settings, n_layers = recipe.localize, located.spec.n_layers
    sampling = located.spec.sampling(settings.steps, settings.guidance)
    n_pictures = n_ranked = 0
    named = scored_layers(located, recipe)
    for i, entry in enumerate(recipe.edits):
        n_prompts = len(entry.localize_pairs)
        n_pairs = n_prompts * settings.seeds
        if named:
            n_pictures += len(candidates_of(named[i : i + 1], n_layers)) * n_pairs
            continue
        if settings.window == "set" or (may_scatter and settings.may_scatter):
            n_pictures += sets.max_images(n_prompts, n_pairs)
        if settings.window != "set":
            n_pictures += _n_pictures(settings, n_layers, n_prompts)
        n_ranked += n_prompts * _n_replayed(settings, n_layers, sampling[0])
    priced = PlannedRuns.of(n_pictures, sampling)
    evaluations = priced.unet_evaluations + n_ranked
    return priced.model_copy(update={"unet_evaluations": evaluations})


def _n_pictures(settings: LocalizeSettings, n_layers: int, n_prompts: int) -> int:
    """Return how many pictures a search for a range of one concept makes at most."""
    n_pairs = n_prompts * settings.seeds
    windows = windows_of(settings.width, n_layers)
    if not _is_ranked(settings, n_layers):
        return len(candidates_of(windows, n_layers)) * n_pairs
    widths = widths_of(settings.width)
    if settings.method == "contribution":
        n_tried = contribution.max_images(widths)
        return 2 * n_pairs + n_prompts * min(2, settings.seeds) * n_tried
    return fast.max_images(n_layers, widths, n_pairs)


def _n_replayed(settings: LocalizeSettings, n_layers: int, n_steps: int) -> int:
    """Return how many evaluations the ranking of the layers takes for each prompt."""
    if not _is_ranked(settings, n_layers):
        return 0
    is_by_size = settings.method == "contribution"
    return n_steps if is_by_size else fast.N_PASSES * min(fast.N_STEPS, n_steps)


def _is_ranked(settings: LocalizeSettings, n_layers: int) -> bool:
    """Whether layers are ranked first: not where all is tried, nor where there is one window."""
    is_fast = settings.search == "fast" or settings.method == "contribution"
    return is_fast and settings.width != n_layers


def price_of_listing(located: LocatedModel, recipe: Recipe) -> PlannedRuns:
    """Return what it takes to hold neurons, once their layers are known."""
    settings = recipe.localize
    n_pairs = sum(len(entry.localize_pairs) for entry in recipe.edits)
    sampling = located.spec.sampling(settings.steps, settings.guidance)
    return PlannedRuns.of(4 * n_pairs * settings.seeds, sampling)
