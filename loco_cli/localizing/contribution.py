"""
Contribution: rank the layers by how much the subject's tokens add to their output.

    symbol    here              meaning
    A         one per layer     attention from picture positions to tokens
    V         one per layer     values of the tokens
    W_o       one per layer     output projection, without its bias
    tok       `_subject_mask`   the subject's tokens and all later tokens

The contribution of a layer is the mean of |W_o (A[:, tok] V[tok])| over positions, steps and
prompts, in one generation per prompt. The largest contribution need not have the largest effect. So
windows are tried in the order of their summed contributions, until one has the required effect.

A causal encoder also writes the subject into all later tokens, including the padding, and the
layers read it there. On `tiny`, the subject's own tokens alone rank the layers wrongly. So does
their share of a layer's output.

Zarei et al. 2025, arXiv:2505.18832, for diffusion transformers and the subject's tokens only.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loco_cli.encoders.tokenizer import last_mention
from loco_cli.layers import LayerSet, sliding_windows
from loco_cli.localization import LocalizationRun
from loco_cli.localizing import locogen
from loco_cli.localizing.layer_search import cost_of_search, find_layers
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
from loco_cli.models.tokenizers import tokenizers_of
from loco_cli.recipe.record import LocalizeSettings, Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from loco_cli.sampling.probe import Trajectory

# for 26 concepts of `tiny`, the first window was right 22 times, the next two in the other cases
_N_WINDOWS_OF_FIRST_WIDTH = 3  # windows of the narrowest width to try


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
    """Return the upper limit of the search's cost."""
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
    """Find the layers of each concept."""
    return find_layers(context, recipe, _find_range, _rank_layers, allows_sets=allows_sets)


def _find_range(runs: RunRecorder) -> LocalizationRun:
    """
    Return the first likely window with the required effect, or the best of those tried.

    A few windows are tried, on two seeds of every prompt.
    """
    if runs.settings.width == runs.board.n_layers:
        return locogen.sweep(runs)  # a single window leaves nothing to rank
    search = FastSearch(runs)
    sizes = _rank_layers(search)
    search.measure_full_swap()
    for window in _likely_windows(sizes, search.widths):
        search.score_up_to({window: 2 * len(runs.pairs)})
        best = search.board.best()
        if best.effect >= search.board.threshold:
            break
    return search.result(best.layers, sizes)


def _rank_layers(search: FastSearch) -> list[float]:
    """Return the contribution of each layer, averaged over the prompts."""
    import torch

    from loco_cli.sampling.probe import contribution_norms  # imports diffusers

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

    return search.measure_originals("contribution", measure, 1, runs.n_unet_calls)


def _likely_windows(contributions: Sequence[float], widths: Sequence[int]) -> tuple[LayerSet, ...]:
    """
    Return the windows with the largest contributions, in the order of the trials.

    The first width gets three windows, every other width one. Ties go to the first.
    """

    def total(window: LayerSet) -> float:
        return sum(contributions[layer] for layer in window)

    return tuple(
        window
        for i, width in enumerate(widths)
        for window in sorted(sliding_windows(len(contributions), width), key=total, reverse=True)[
            : 1 if i else _N_WINDOWS_OF_FIRST_WIDTH
        ]
    )


def _subject_mask(
    offsets: Sequence[tuple[int, int]],  # characters of each token
    start: int,  # first character of the subject
    n_tokens: int,
) -> list[bool]:
    """Return a mask of the subject's tokens and all later tokens."""
    first = next(i for i, (_, end) in enumerate(offsets) if end > start)
    return [i >= first for i in range(n_tokens)]


def _max_range_images(settings: LocalizeSettings, n_layers: int, n_prompts: int) -> int:
    n_pairs, windows = n_prompts * settings.seeds, windows_of(settings.width, n_layers)
    if settings.width == n_layers:
        return len(candidates_of(windows, n_layers)) * n_pairs
    n_windows = _N_WINDOWS_OF_FIRST_WIDTH - 1 + len(widths_of(settings.width))
    return 2 * n_pairs + n_prompts * min(2, settings.seeds) * n_windows


def _n_replayed(settings: LocalizeSettings, n_layers: int, n_steps: int) -> int:
    return 0 if settings.width == n_layers else n_steps
