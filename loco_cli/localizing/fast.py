"""
The decisions of the fast search: rank the layers cheaply, then race the most likely windows.

The objective is that of the exhaustive sweep: the window with the best score, or the narrowest
window whose effect reaches the required one. The search leaves out runs that can no longer change
the answer (successive elimination):

    1.  Attribution: estimate each layer's share of the full swap to first order, from one run per
        prompt.
    2.  Scale: run the full swap once per prompt, and more often if its error decides the answer.
    3.  Shortlist: run the windows with the largest shares once. `width: auto` starts with narrow
        windows, and tries wider ones only if none of these passes the threshold.
    4.  Cover: if none of them passes, run windows that together contain every layer, and the
        windows near the best. This finds windows that the ranking missed. If no window reaches
        half of the required effect, use two runs each, since one run is then too noisy.
    5.  Race: give more prompts and seeds to the best window and to the rivals that are not yet
        eliminated.
    6.  Confirm: run the best window's neighbours on every prompt, unless two runs eliminate them.
        Run the best on two seeds of each prompt or more, until it clearly passes the threshold or
        its standard error reaches `TARGET_STDERR`.

All comparisons are paired: windows are compared on the same prompts and seeds.
"""

from collections.abc import Sequence

from loco_cli.layers import LayerSet, sliding_windows
from loco_cli.localization import N_STDERRS_APART
from loco_cli.localizing.scoreboard import (
    N_FIRST_RUNS,
    N_RIVALS,
    TARGET_STDERR,
    Estimate,
    Scoreboard,
)

N_REPLAYED_STEPS = 5  # denoising steps that attribution replays; the ranks are stable from 3 on
# one call each for the full swap and the original; a backward pass costs as much as two
N_UNET_CALLS_PER_STEP = 4
PROMISING_SHARE = 0.5  # share of the required effect below which a single run decides nothing
N_DISJOINT_WINDOWS = 16  # windows of a cover without overlap; overlap by half doubles their number

# the comparison budget counts rows; a row is one window on every prompt and seed
_SWEEP_ROWS_PER_COMPARED_ROW = 5  # the budget is a fifth of the exhaustive sweep
_MIN_ROWS = 4  # lower limit of the budget
_MAX_ROWS = 12  # upper limit of the budget, for any number of layers


def shortlist(shares: Sequence[float], width: int, widths: Sequence[int]) -> tuple[LayerSet, ...]:
    """
    Return the windows of `width` with the largest sums of shares.

    A single width gets four windows. With several widths the narrowest gets three, and each wider
    one gets one less, but at least one.
    """
    windows = sorted(
        sliding_windows(len(shares), width),
        key=lambda layers: -sum(shares[layer] for layer in layers),
    )
    return tuple(windows[: 4 if len(widths) == 1 else max(1, 3 - widths.index(width))])


def cover(n_layers: int, width: int) -> tuple[LayerSet, ...]:
    """
    Return windows that together contain every layer and overlap by half.

    They are wider than `width` if more than twice `N_DISJOINT_WINDOWS` would be needed otherwise.
    """
    if n_layers - width >= 2 * N_DISJOINT_WINDOWS:
        width = max(width, -(-n_layers // N_DISJOINT_WINDOWS))
    starts = range(0, n_layers - width, max(1, -(-width // 2)))
    return tuple(LayerSet.window(i, i + width) for i in (*starts, n_layers - width))


def windows_near(layers: LayerSet, width: int, n_layers: int) -> tuple[LayerSet, ...]:
    """Return the windows of `width` within `layers` extended by one layer on each side."""
    low, high = max(0, layers[0] - 1), min(n_layers, layers[-1] + 2)
    return tuple(LayerSet.window(i, i + width) for i in range(low, high - width + 1))


def _neighbours(layers: LayerSet, n_layers: int, *, is_auto: bool) -> tuple[LayerSet, ...]:
    """Return a window shifted by one layer and, for `width: auto`, shortened by one layer."""
    width = len(layers)
    found = [w for w in windows_near(layers, width, n_layers) if w != layers]
    if is_auto and width > 1:
        found += [LayerSet(layers[:-1]), LayerSet(layers[1:])]
    return tuple(found)


def comparison_budget(n_windows: int, n_pairs: int) -> int:
    """Return the number of pictures after which only the best window gets more runs."""
    return min(max(n_windows // _SWEEP_ROWS_PER_COMPARED_ROW, _MIN_ROWS), _MAX_ROWS) * n_pairs


def max_images(n_layers: int, widths: Sequence[int], n_pairs: int) -> int:
    """
    Return the upper limit of pictures that a search for a window takes.

    It adds up the comparison budget, the round that exceeds it, the cover of all layers, and the
    original, the full swap and the best window on every prompt and seed.
    """
    n_windows = sum(n_layers - width + 1 for width in widths)
    blocks = cover(n_layers, widths[-1])
    n_near = N_RIVALS * len(windows_near(blocks[len(blocks) // 2], widths[-1], n_layers))
    n_cover = min(n_windows, len(blocks) + n_near) * min(N_FIRST_RUNS, n_pairs)
    n_raced = comparison_budget(n_windows, n_pairs) + n_cover + (2 * N_RIVALS + _MIN_ROWS) * n_pairs
    return min((n_windows + 2) * n_pairs, n_raced)


def windows_needing_runs(
    board: Scoreboard, best: Estimate, n_prompts: int, n_all: int, *, has_budget: bool
) -> dict[LayerSet, int]:
    """
    Return the next round of the race: the number of runs that each window should reach.

    The first runs decide which windows go on to every prompt. A best window near or above the
    threshold gets two runs per prompt, and more until it clearly passes or its effect is precise.
    A best window clearly below the threshold gets one run per prompt; it gets more only to separate
    it from a rival, and none if it is clearly below half the threshold. A tie stays open if two
    runs per prompt predict that all runs would not resolve it.

    Args:
        board: The scores so far.
        best: The best window so far.
        n_prompts: The number of prompts.
        n_all: The number of prompts times seeds.
        has_budget: Compare the best window with rivals and neighbours.

    Returns:
        The total number of runs for each window that needs more. Empty once the race is over.
    """

    def next_n_runs(n: int) -> int:
        return min(n_prompts if n < n_prompts else 2 * n, n_all)

    is_short = best.effect + N_STDERRS_APART * best.stderr < board.threshold
    n_min = min(n_prompts if is_short else 2 * n_prompts, n_all)
    is_hopeless = best.effect + N_STDERRS_APART * best.stderr < PROMISING_SHARE * board.threshold
    n_max = min((1 if is_hopeless else 2) * n_prompts, n_all) if is_short else n_all
    rivals = [
        rival
        for rival in (board.rivals(best) if has_budget else ())
        if min(best.n, rival.n) < n_all
        if min(best.n, rival.n) < 2 * n_prompts or board.can_separate(best, rival, n_all)
    ][:N_RIVALS]
    n_required = {
        rival.layers: next_n_runs(rival.n)
        for rival in rivals
        if rival.n < max(best.n, n_prompts) and rival.n < n_all
    }
    is_imprecise = best.stderr > TARGET_STDERR and board.can_settle_threshold(best, n_all)
    if best.n < n_min or (best.n < n_max and not n_required and (rivals or is_imprecise)):
        n_required[best.layers] = next_n_runs(best.n)
    n_full = len(board.values[board.all_layers])
    if board.is_auto and n_full < n_all and board.needs_better_scale(best):
        n_required[board.all_layers] = next_n_runs(n_full)
    if has_budget and best.n >= min(n_prompts, n_all):
        for window in _neighbours(best.layers, board.n_layers, is_auto=board.is_auto):
            if len(board.values.get(window, ())) < min(N_FIRST_RUNS, n_all):
                n_required[window] = min(N_FIRST_RUNS, n_all)
    return n_required
