"""One concept's sweep: plan the runs, make the pictures, score them, rank the layers."""

import time
from collections.abc import Iterable, Sequence

from loco_cli.events import SILENT, Events
from loco_cli.layers import LayerSet, sliding_windows
from loco_cli.localization import Localization, LocalizationRun, better_for
from loco_cli.localizing import locogen, search
from loco_cli.localizing.cache import RunCache, trim
from loco_cli.localizing.checks import check_localize, scored_layers
from loco_cli.localizing.runs import RunRecorder
from loco_cli.localizing.runs import SearchContext as SearchContext
from loco_cli.localizing.search import FastSearch
from loco_cli.localizing.set_search import smallest_set
from loco_cli.models.locate import LocatedModel
from loco_cli.models.session import RunOptions, find_scorer, load_model, load_scorer
from loco_cli.models.tokenizers import check_subjects
from loco_cli.recipe import EditEntry, LocalizeSettings, Recipe
from loco_cli.sampling.sample import choose_batch_size


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
    return run_on(load_bench(located, machine, events), recipe, may_scatter=may_scatter)


def check(located: LocatedModel, recipe: Recipe) -> None:
    """Raise where the sweeps of a recipe cannot be made as asked."""
    check_localize(located, recipe.localize)
    check_subjects(located, (pair for entry in recipe.edits for pair in entry.localize_pairs))


def run_on(
    bench: SearchContext, recipe: Recipe, *, may_scatter: bool = False
) -> tuple[LocalizationRun, ...]:
    """Return one sweep for each edit of the recipe, on what is loaded."""
    named = scored_layers(bench.located, recipe)
    swept = tuple(
        score(bench, entry, recipe.localize, named[i])
        if named
        else localize(bench, entry, recipe.localize, may_scatter=may_scatter)
        for i, entry in enumerate(recipe.edits)
    )
    if bench.kept and bench.team.is_first:
        trim()
    return swept


def load_bench(
    located: LocatedModel, machine: RunOptions, events: Events = SILENT
) -> SearchContext:
    """Return the model and its scorer, loaded, with the runs that are kept of them."""
    scorer = load_scorer(located, machine)
    pipeline = load_model(located, machine, events)
    batch_size = min(machine.team.gather(choose_batch_size(machine.batch_size, pipeline)))
    kept = None
    if machine.is_cached:
        network = pipeline.network
        folder = find_scorer(machine.scorer or located.spec.scorer)
        kept = RunCache.of(located, folder, f"{network.device.type} {network.dtype}")
    return SearchContext(located, pipeline, scorer, batch_size, events, kept, machine.team)


def localize(
    bench: SearchContext, entry: EditEntry, settings: LocalizeSettings, *, may_scatter: bool = False
) -> LocalizationRun:
    """Return the layers of one concept, found in the way that the settings name."""
    runs = RunRecorder.of(bench, entry, settings)
    if settings.window == "set":
        return smallest_set(runs)
    swept = contiguous(runs)
    found = swept.localization
    if not may_scatter or not settings.may_scatter or found.is_enough(settings.effect):
        return swept
    if not FastSearch(runs).race.is_known:
        return swept
    return smallest_set(runs, found.ranking or alone(found), found.seconds)


def contiguous(runs: RunRecorder) -> LocalizationRun:
    """Return the range of layers that is found in the way that the settings name."""
    settings = runs.settings
    if settings.width == runs.bench.located.spec.n_layers:
        return exhaustive(runs)  # of a single window there is nothing to rank
    if settings.method == "contribution":
        return search.contribution(runs)
    if settings.search == "fast":
        return search.fast(runs)
    return exhaustive(runs)


def alone(found: Localization) -> tuple[float, ...]:
    """Return what each layer does alone, of a sweep that tried them all."""
    return tuple(score.effect or 0.0 for score in found.scores if len(score.layer_set) == 1)


def score(
    bench: SearchContext, entry: EditEntry, settings: LocalizeSettings, layers: tuple[int, ...]
) -> LocalizationRun:
    """Return the score of layers that are named, on every prompt and seed; none are looked for."""
    started = time.monotonic()
    # of a single candidate all is tried
    runs = RunRecorder.of(bench, entry, settings.model_copy(update={"search": "exhaustive"}))
    n_layers = bench.located.spec.n_layers
    _sweep(runs, [layers])
    original, target, scores = locogen.rank(runs.trials, runs.scores, [layers], n_layers)
    error, seconds = search.scale_error(FastSearch(runs).race), time.monotonic() - started
    found = runs.document(scores, scores[0], (original, target), seconds, scale_error=error)
    return LocalizationRun(found, tuple(runs.pictures), bench.located.spec.module_paths)


def exhaustive(runs: RunRecorder) -> LocalizationRun:
    """Return the paper's sweep: every window on every prompt and seed, narrow ones first."""
    started, settings = time.monotonic(), runs.settings
    spec = runs.bench.located.spec
    windows: list[LayerSet] = []
    for width in locogen.widths_of(settings.width):
        windows += sliding_windows(spec.n_layers, width)
        _sweep(runs, windows)
        original, target, scores = locogen.rank(runs.trials, runs.scores, windows, spec.n_layers)
        race = FastSearch(runs).race
        wanted = race.enough if settings.width == "auto" else None
        chosen = locogen.choose(scores, better_for(runs.concept.kind), wanted=wanted)
        if wanted and chosen.effect is not None and chosen.effect >= wanted:
            break
    error = search.scale_error(race)
    seconds = time.monotonic() - started
    found = runs.document(scores, chosen, (original, target), seconds, scale_error=error)
    return LocalizationRun(found, tuple(runs.pictures), spec.module_paths)


def _sweep(runs: RunRecorder, windows: Sequence[Iterable[int]]) -> None:
    """Make and score the runs of these windows, and of nothing and everything, if not yet."""
    candidates = locogen.candidates_of(windows, runs.bench.located.spec.n_layers)
    known = {trial.candidate for trial in runs.trials}
    fresh = [candidate for candidate in candidates if candidate not in known]
    trials = locogen.plan(
        fresh, runs.pairs, runs.seeds, runs.concept.kind, with_pooled=runs.settings.pooled
    )
    stage = f"localizing {runs.concept.subject}"
    runs.make(trials, f"{stage} in wider ranges" if runs.trials else stage, is_shared=False)
