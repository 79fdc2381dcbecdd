"""
LocoGen: find the layers of a concept by swapping the prompt of some layers.

LocoGen measures the direct effect of a window of layers. The *source prompt* contains the concept,
the *target prompt* is the same prompt without it. For each window of cross-attention layers a
picture is drawn in which that window reads the target prompt. The swap applies to keys and values,
in the conditional half of the batch, at every step. All other layers read the source prompt. The
chosen window minimizes the score against the source prompt (style, object), or maximizes the score
against the target prompt (fact).

    symbol    here                       meaning
    m         width                      number of layers in a window
    C_j       LayerSet.window(j, j + m)  one of the M - m + 1 candidates
    c, c'     source, target             text embeddings of the prompts
    a_j       WindowScore.score          mean CLIP score over prompts and seeds

The *effect* of a window is its score change divided by the change under the full swap.

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
from loco_cli.localizing.methods import Cost, GivenLayers, check_search
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


def check(located: LocatedModel, recipe: Recipe, layers_of: GivenLayers = None) -> None:
    """Raise RequestError if the settings do not fit the model."""
    check_search(located, recipe.localize)


def cost(
    located: LocatedModel,
    recipe: Recipe,
    layers_of: GivenLayers = None,
    *,
    allows_sets: bool = False,
    batch_size: int | None = None,
) -> Cost:
    """Return the upper limit of the search's cost, or the cost of scoring the given layers."""
    if layers_of:
        return cost_of_layers(located, recipe, layers_of), None
    searched = cost_of_search(
        located, recipe, _max_range_images, _n_replayed, allows_sets=allows_sets
    )
    return searched, None


def run(
    context: SearchContext,
    recipe: Recipe,
    layers_of: GivenLayers = None,
    *,
    allows_sets: bool = False,
) -> tuple[LocalizationRun, ...]:
    """
    Find the layers of each concept, or score the given layers.

    Args:
        context: The loaded model and its scorer.
        recipe: The recipe, with the concepts and the settings.
        layers_of: The layers to score for each concept; None searches for them.
        allows_sets: Search for a set of layers if no range has the required effect.

    Returns:
        One localization for each edit of the recipe.
    """
    if not layers_of:
        return find_layers(context, recipe, _find_range, _rank_layers, allows_sets=allows_sets)
    # one candidate leaves nothing to rank
    settings = recipe.localize.model_copy(update={"search": "exhaustive"})
    runs = [RunRecorder.of(context, entry, settings) for entry in recipe.edits]
    found = tuple(map(_score_layers, runs, layers_of))
    if context.cache and context.team.is_first:
        trim()
    return found


def _find_range(runs: RunRecorder) -> LocalizationRun:
    """Find the range of layers of a concept, by the fast search or the exhaustive sweep."""
    if not _ranks_layers(runs.settings, runs.board.n_layers):
        return sweep(runs)
    search = FastSearch(runs)
    shares = _rank_layers(search)
    best = search.find_best(shares)
    return search.result(best.layers, shares)


def _rank_layers(search: FastSearch) -> list[float]:
    """Return the share of the full swap that attribution predicts for each layer."""
    from loco_cli.sampling.probe import attribution_shares  # imports diffusers

    def measure(path: "Trajectory", trials: Sequence[SwapTrial]) -> "Tensor":
        targets = [trial.run.swap.prompt for trial in trials if trial.run.swap]
        return attribution_shares(
            search.runs.context.pipeline, path, targets, fast.N_REPLAYED_STEPS
        )

    return search.measure_originals(
        "attribution", measure, fast.N_UNET_CALLS_PER_STEP, fast.N_REPLAYED_STEPS
    )


def sweep(runs: RunRecorder) -> LocalizationRun:
    """
    Run the sweep of the paper: every window on every prompt and seed, from narrow to wide.

    `width: auto` stops at the first width that has a window above the threshold.
    """
    started, settings, board = time.monotonic(), runs.settings, runs.board
    windows: list[LayerSet] = []
    for width in widths_of(settings.width):
        windows += sliding_windows(board.n_layers, width)
        _draw_candidates(runs, windows)
        original, target, scores = _score_windows(board.values, windows, board.n_layers)
        required = board.threshold if settings.width == "auto" else None
        chosen = _choose_window(scores, better_direction(runs.concept.kind), required=required)
        if required and chosen.effect is not None and chosen.effect >= required:
            break
    return runs.result(scores, chosen, (original, target), time.monotonic() - started)


def _score_layers(runs: RunRecorder, layers: LayerSet) -> LocalizationRun:
    """Score the given layers on every prompt and seed."""
    started, board = time.monotonic(), runs.board
    _draw_candidates(runs, [layers])
    original, target, scores = _score_windows(board.values, [layers], board.n_layers)
    return runs.result(scores, scores[0], (original, target), time.monotonic() - started)


def _score_windows(
    values: Mapping[LayerSet, Sequence[float]],  # scores of every candidate
    windows: Sequence[LayerSet],
    n_layers: int,
) -> tuple[float, float, tuple[WindowScore, ...]]:
    """Return the mean scores of the original and the full swap, and the score of each window."""
    original, target = fmean(values[LayerSet()]), fmean(values[LayerSet(range(n_layers))])
    scores = tuple(
        WindowScore.of(window, values[window], original=original, target=target)
        for window in windows
    )
    return original, target, scores


def _choose_window(
    scores: Sequence[WindowScore], better: Better, *, required: float | None
) -> WindowScore:
    """
    Return the best of the narrowest windows with the required effect.

    If there are none, or no effect is required, return the best of all windows.
    """
    passing = [
        s for s in scores if required is not None and s.effect is not None and s.effect >= required
    ]
    if passing:
        narrowest = min(len(s.layer_set) for s in passing)
        return best_score([s for s in passing if len(s.layer_set) == narrowest], better)
    return best_score(scores, better)


def _draw_candidates(runs: RunRecorder, windows: Sequence[LayerSet]) -> None:
    """Draw and score these windows, the original and the full swap, unless they have scores."""
    known, stage = runs.board.values, f"localizing {runs.concept.subject}"
    fresh = [
        layers for layers in candidates_of(windows, runs.board.n_layers) if layers not in known
    ]
    trials = runs.trials(fresh, [(pair, seed) for pair in runs.pairs for seed in runs.seeds])
    runs.run_trials(trials, f"{stage} in wider ranges" if known else stage, is_shared=False)


def _max_range_images(settings: LocalizeSettings, n_layers: int, n_prompts: int) -> int:
    n_pairs, windows = n_prompts * settings.seeds, windows_of(settings.width, n_layers)
    if not _ranks_layers(settings, n_layers):
        return len(candidates_of(windows, n_layers)) * n_pairs
    return fast.max_images(n_layers, widths_of(settings.width), n_pairs)


def _n_replayed(settings: LocalizeSettings, n_layers: int, n_steps: int) -> int:
    is_ranked = _ranks_layers(settings, n_layers)
    return fast.N_UNET_CALLS_PER_STEP * min(fast.N_REPLAYED_STEPS, n_steps) if is_ranked else 0


def _ranks_layers(settings: LocalizeSettings, n_layers: int) -> bool:
    """Return True if the search ranks layers: it is fast, and there is more than one window."""
    return settings.search == "fast" and settings.width != n_layers
