"""
LocoGen: give some layers another prompt, generate, and see what is gone.

The concept's layers are found by direct effect. A *source prompt* holds the concept, a *target
prompt* is the same without it. For every window of cross-attention layers a picture is made in
which that window reads the target prompt, in keys and values, on the conditional half, at every
step, and all other layers read the source prompt. The window after whose swap the picture fits
the source prompt least (style, object), or the target prompt best (fact), holds the concept.

    symbol    here                       what
    m         width                      layers in a window
    C_j       LayerSet.window(j, j + m)  a candidate, all M - m + 1 of them
    c, c'     source, target             prompts, as text embeddings
    a_j       WindowScore.score          mean CLIP score over prompts and seeds

The scores of swapping nothing and of swapping everything give the scale: a window's *effect* is
the share of the full swap's change that it makes alone.

Basu et al. 2024, arXiv:2405.01008, Algorithm 1.
"""

import time
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from loco_cli.layers import LayerSet, sliding_windows
from loco_cli.localization import Better, LocalizationRun, WindowScore, best_score, better_direction
from loco_cli.localizing import fast
from loco_cli.localizing.cache import trim
from loco_cli.localizing.layer_search import cost_of_layers, cost_of_search, find_layers
from loco_cli.localizing.methods import Cost, Named, check_search
from loco_cli.localizing.runs import (
    RunRecorder,
    SearchContext,
    SwapTrial,
    candidates_of,
    widths_of,
    windows_of,
)
from loco_cli.localizing.search import FastSearch
from loco_cli.models.locate import LocatedModel
from loco_cli.recipe.record import LocalizeSettings, Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from loco_cli.sampling.probe import Trajectory


def check(located: LocatedModel, recipe: Recipe, layers_of: Named = None) -> None:
    """Raise where layers cannot be looked for, or scored, as asked."""
    check_search(located, recipe.localize)


def cost(
    located: LocatedModel,
    recipe: Recipe,
    layers_of: Named = None,
    *,
    allows_sets: bool = False,
    batch_size: int | None = None,
) -> Cost:
    """Return the pictures that find the layers, at most, or that score those given."""
    if layers_of:
        return cost_of_layers(located, recipe, layers_of), None
    searched = cost_of_search(
        located, recipe, _n_range_images, _n_replayed, allows_sets=allows_sets
    )
    return searched, None


def run(
    context: SearchContext,
    recipe: Recipe,
    layers_of: Named = None,
    *,
    allows_sets: bool = False,
) -> tuple[LocalizationRun, ...]:
    """Return the layers of each concept, or the score of those given."""
    if not layers_of:
        return find_layers(context, recipe, _find_range, _rank_layers, allows_sets=allows_sets)
    # of a single candidate all is tried
    settings = recipe.localize.model_copy(update={"search": "exhaustive"})
    runs = [RunRecorder.of(context, entry, settings) for entry in recipe.edits]
    found = tuple(map(_score_layers, runs, layers_of))
    if context.cache and context.team.is_first:
        trim()
    return found


def _find_range(runs: RunRecorder) -> LocalizationRun:
    """Return the range of layers of a concept, by the fast search or by the exhaustive sweep."""
    if not _is_ranked(runs.settings, runs.board.n_layers):
        return sweep(runs)
    search = FastSearch(runs)
    shares = _rank_layers(search)
    best = search.find_best(shares)
    return search.result(best.layers, shares)


def _rank_layers(search: FastSearch) -> list[float]:
    """Return how large a share of the full swap each layer makes, a mean over the prompts."""
    from loco_cli.sampling.probe import attribution_shares  # diffusers lives behind this line

    def measure(path: "Trajectory", trials: Sequence[SwapTrial]) -> "Tensor":
        targets = [trial.run.swap.prompt for trial in trials if trial.run.swap]
        return attribution_shares(search.runs.context.pipeline, path, targets, fast.N_STEPS)

    return search.measure_originals("attribution", measure, fast.N_PASSES, fast.N_STEPS)


def sweep(runs: RunRecorder) -> LocalizationRun:
    """Return the paper's sweep: every window on every prompt and seed, narrow ones first."""
    started, settings, board = time.monotonic(), runs.settings, runs.board
    windows: list[LayerSet] = []
    for width in widths_of(settings.width):
        windows += sliding_windows(board.n_layers, width)
        _make(runs, windows)
        original, target, scores = _rank(board.values, windows, board.n_layers)
        wanted = board.enough if settings.width == "auto" else None
        chosen = _choose(scores, better_direction(runs.concept.kind), wanted=wanted)
        if wanted and chosen.effect is not None and chosen.effect >= wanted:
            break
    return runs.result(scores, chosen, (original, target), time.monotonic() - started)


def _score_layers(runs: RunRecorder, layers: LayerSet) -> LocalizationRun:
    """Return the score of given layers, on every prompt and seed; none are looked for."""
    started, board = time.monotonic(), runs.board
    _make(runs, [layers])
    original, target, scores = _rank(board.values, [layers], board.n_layers)
    return runs.result(scores, scores[0], (original, target), time.monotonic() - started)


def _rank(
    values: Mapping[LayerSet, Sequence[float]],  # scores of every candidate
    windows: Sequence[LayerSet],
    n_layers: int,
) -> tuple[float, float, tuple[WindowScore, ...]]:
    """Return the original's mean score, the full swap's, and the score of each window."""
    original, target = fmean(values[LayerSet()]), fmean(values[LayerSet(range(n_layers))])
    scores = tuple(
        WindowScore.of(window, values[window], original=original, target=target)
        for window in windows
    )
    return original, target, scores


def _choose(scores: Sequence[WindowScore], better: Better, *, wanted: float | None) -> WindowScore:
    """
    Return the chosen score: the best, or the best of the narrowest that reach the effect `wanted`.

    Where none reaches it, the best of all is returned.
    """
    enough = [
        s for s in scores if wanted is not None and s.effect is not None and s.effect >= wanted
    ]
    if enough:
        narrowest = min(len(s.layer_set) for s in enough)
        return best_score([s for s in enough if len(s.layer_set) == narrowest], better)
    return best_score(scores, better)


def _make(runs: RunRecorder, windows: Sequence[LayerSet]) -> None:
    """Make and score the runs of these windows, and of nothing and everything, if not yet."""
    known, stage = runs.board.values, f"localizing {runs.concept.subject}"
    fresh = [
        layers for layers in candidates_of(windows, runs.board.n_layers) if layers not in known
    ]
    trials = runs.trials(fresh, [(pair, seed) for pair in runs.pairs for seed in runs.seeds])
    runs.make(trials, f"{stage} in wider ranges" if known else stage, is_shared=False)


def _n_range_images(settings: LocalizeSettings, n_layers: int, n_prompts: int) -> int:
    n_pairs, windows = n_prompts * settings.seeds, windows_of(settings.width, n_layers)
    if not _is_ranked(settings, n_layers):
        return len(candidates_of(windows, n_layers)) * n_pairs
    return fast.max_images(n_layers, widths_of(settings.width), n_pairs)


def _n_replayed(settings: LocalizeSettings, n_layers: int, n_steps: int) -> int:
    is_ranked = _is_ranked(settings, n_layers)
    return fast.N_PASSES * min(fast.N_STEPS, n_steps) if is_ranked else 0


def _is_ranked(settings: LocalizeSettings, n_layers: int) -> bool:
    """Whether layers are ranked first: not where all is tried, nor where there is one window."""
    return settings.search == "fast" and settings.width != n_layers
