"""What it takes to find the layers of a concept, before any picture is made."""

from loco_cli.localizers import contribution, fast, locogen, sets
from loco_cli.models.spec import ModelSpec
from loco_cli.plan import PlannedRuns
from loco_cli.recipe import LADDERS, LocalizeSettings, Recipe
from loco_cli.strength import at_most
from loco_cli.workflows.opening.locate import Located
from loco_cli.workflows.planning.checks import named_layers, scored_layers
from loco_cli.workflows.prompts.questions import validation


def price(located: Located, recipe: Recipe, *, may_scatter: bool = False) -> PlannedRuns:
    """
    Return what it takes, at most, to find the layers of every edit.

    With `may_scatter` a set is looked for where no range is enough.
    """
    settings, n_layers = recipe.localize, located.spec.n_layers
    sampling = located.spec.sampling(settings.steps, settings.guidance)
    n_pictures = n_ranked = 0
    named = scored_layers(located, recipe)
    for i, entry in enumerate(recipe.edits):
        n_prompts = len(entry.localize_pairs())
        n_pairs = n_prompts * settings.seeds
        if named:
            n_pictures += len(locogen.candidates_of(named[i : i + 1], n_layers)) * n_pairs
            continue
        if settings.window == "set" or (may_scatter and settings.may_scatter):
            n_pictures += sets.at_most(n_prompts, n_pairs)
        if settings.window != "set":
            n_pictures += _n_pictures(settings, n_layers, n_prompts)
        n_ranked += n_prompts * _n_replayed(settings, n_layers, sampling[0])
    priced = PlannedRuns.of(n_pictures, sampling)
    evaluations = priced.unet_evaluations + n_ranked
    return priced.model_copy(update={"unet_evaluations": evaluations})


def _n_pictures(settings: LocalizeSettings, n_layers: int, n_prompts: int) -> int:
    """Return how many pictures a search for a range of one concept makes at most."""
    n_pairs = n_prompts * settings.seeds
    windows = locogen.windows_of(settings.width, n_layers)
    if not _is_ranked(settings, n_layers):
        return len(locogen.candidates_of(windows, n_layers)) * n_pairs
    widths = locogen.widths_of(settings.width)
    if settings.method == "contribution":
        n_tried = contribution.at_most(widths)
        return 2 * n_pairs + n_prompts * min(2, settings.seeds) * n_tried
    return fast.at_most(n_layers, widths, n_pairs)


def _n_replayed(settings: LocalizeSettings, n_layers: int, n_steps: int) -> int:
    """Return how many evaluations the ranking of the layers takes for each prompt."""
    if not _is_ranked(settings, n_layers):
        return 0
    is_by_size = settings.method == "contribution"
    return n_steps if is_by_size else fast.PASSES * min(fast.N_STEPS, n_steps)


def _is_ranked(settings: LocalizeSettings, n_layers: int) -> bool:
    """Whether layers are ranked first: not where all is tried, nor where there is one window."""
    is_fast = settings.search == "fast" or settings.method == "contribution"
    return is_fast and settings.width != n_layers


def price_of_strength(located: Located, recipe: Recipe) -> PlannedRuns | None:
    """Return what it takes, at most, to choose an edit's strength; None where it is fixed."""
    if not recipe.edit.is_measured:
        return None
    asked = validation(located.spec, recipe)
    n_forget = sum(question.edit is not None for question in asked)
    n_keep = sum(question.edit is None for question in asked)
    is_sought = named_layers(located, recipe) is None
    n_pictures = at_most(n_forget, n_keep, len(LADDERS[recipe.edit.method]), is_widened=is_sought)
    return PlannedRuns.of(n_pictures, trial_sampling(located.spec, recipe))


def trial_sampling(spec: ModelSpec, recipe: Recipe) -> tuple[int, float]:
    """
    Return steps and guidance of the pictures that choose a strength: half as many steps.

    What a picture shows is recognised in them as well, and more prompts tell more than more steps.
    """
    steps, guidance = spec.sampling(recipe.localize.steps, recipe.localize.guidance)
    return (steps + 1) // 2, guidance


def price_of_listing(located: Located, recipe: Recipe) -> PlannedRuns:
    """Return what it takes to hold neurons, once their layers are known."""
    settings = recipe.localize
    n_pairs = sum(len(entry.localize_pairs()) for entry in recipe.edits)
    sampling = located.spec.sampling(settings.steps, settings.guidance)
    return PlannedRuns.of(4 * n_pairs * settings.seeds, sampling)
