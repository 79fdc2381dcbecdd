"""
Contribution: rank the layers by what the subject's tokens add to the picture, without any swap.

    symbol    here             what
    A, V      of a layer       attention of the picture's positions to the tokens, and their values
    W_o       of a layer       the projection of all heads' sums, its bias left out
    tok       `_subject_mask`   the subject's tokens and all behind them

A layer's contribution is the mean over positions, steps and prompts of |W_o (A[:, tok] V[tok])|,
in one generation per prompt. Windows are tried in the order of their sums, until one has the effect
that is asked for: what adds most need not matter, as layers may read words that they make nothing
of. An encoder that reads from left to right tells the end of the prompt, padding with it, all that
it knows of the subject, and the layers read it there: the subject's own tokens alone rank the
layers of `tiny` wrongly, and so does the share of a layer's output that these make.

Zarei et al. 2025, arXiv:2505.18832, which names diffusion transformers and takes the subject alone.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loco_cli.encoders.tokenizer import last_mention
from loco_cli.layers import LayerSet, sliding_windows
from loco_cli.localization import LocalizationRun
from loco_cli.localizing import locogen
from loco_cli.localizing.layer_search import cost_of_search, find_layers
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
from loco_cli.models.tokenizers import tokenizers_of
from loco_cli.recipe.record import LocalizeSettings, Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from loco_cli.sampling.probe import Trajectory

# of 26 concepts of `tiny` the first window was right 22 times, then the two others
_N_NARROWEST = 3  # windows of the first width that are tried


def check(located: LocatedModel, recipe: Recipe, layers_of: Named = None) -> None:
    """Raise where layers cannot be looked for as asked."""
    check_search(located, recipe.localize)


def cost(
    located: LocatedModel,
    recipe: Recipe,
    layers_of: Named = None,
    *,
    allows_sets: bool = False,
    batch_size: int | None = None,
) -> Cost:
    """Return the pictures that find the layers, at most."""
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
    """Return the layers of each concept."""
    return find_layers(context, recipe, _find_range, _rank_layers, allows_sets=allows_sets)


def _find_range(runs: RunRecorder) -> LocalizationRun:
    """
    Return the layers to which the subject adds most and that are enough; no window is swept.

    A few windows at most are tried, on two seeds of every prompt, until one has the effect.
    """
    if runs.settings.width == runs.board.n_layers:
        return locogen.sweep(runs)  # of a single window there is nothing to rank
    search = FastSearch(runs)
    sizes = _rank_layers(search)
    search.measure_full_swap()
    for window in _likely_windows(sizes, search.widths):
        search.score_to({window: 2 * len(runs.pairs)})
        best = search.board.best()
        if best.effect >= search.board.enough:
            break
    return search.result(best.layers, sizes)


def _rank_layers(search: FastSearch) -> list[float]:
    """Return the size of what the subject adds in each layer, a mean over the prompts."""
    import torch

    from loco_cli.sampling.probe import contribution_norms  # diffusers lives behind this line

    runs, pipeline = search.runs, search.runs.context.pipeline
    tokenizer = tokenizers_of(runs.context.located.encoder_model)[0]

    def measure(path: "Trajectory", trials: Sequence[SwapTrial]) -> "Tensor":
        masks = []
        for trial in trials:
            tokens = tokenizer.tokenize(trial.run.prompt)
            start, _ = last_mention(tokens.text, runs.concept.subject)
            n_tokens = len(pipeline.prompt_encoder.encode(trial.run.prompt).states)
            masks.append(_subject_mask(tokens.offsets, start, n_tokens))
        return contribution_norms(pipeline, path, torch.tensor(masks), len(path.steps))

    return search.measure_originals("contribution", measure, 1, runs.steps)


def _likely_windows(contributions: Sequence[float], widths: Sequence[int]) -> tuple[LayerSet, ...]:
    """
    Return the windows to try, likely ones first: three of the first width, one of every other.

    They are those that add most, the first of equals.
    """

    def total(window: LayerSet) -> float:
        return sum(contributions[layer] for layer in window)

    return tuple(
        window
        for turn, width in enumerate(widths)
        for window in sorted(sliding_windows(len(contributions), width), key=total, reverse=True)[
            : 1 if turn else _N_NARROWEST
        ]
    )


def _subject_mask(
    offsets: Sequence[tuple[int, int]],  # of every token, in characters of the prompt
    start: int,  # where the subject begins
    n_tokens: int,
) -> list[bool]:
    """Return for each token whether it is the subject's or stands behind it."""
    first = next(i for i, (_, end) in enumerate(offsets) if end > start)
    return [i >= first for i in range(n_tokens)]


def _n_range_images(settings: LocalizeSettings, n_layers: int, n_prompts: int) -> int:
    n_pairs, windows = n_prompts * settings.seeds, windows_of(settings.width, n_layers)
    if settings.width == n_layers:
        return len(candidates_of(windows, n_layers)) * n_pairs
    n_windows = _N_NARROWEST - 1 + len(widths_of(settings.width))
    return 2 * n_pairs + n_prompts * min(2, settings.seeds) * n_windows


def _n_replayed(settings: LocalizeSettings, n_layers: int, n_steps: int) -> int:
    return 0 if settings.width == n_layers else n_steps
