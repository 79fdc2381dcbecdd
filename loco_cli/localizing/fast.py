"""
LocoGen's answer from a few of its runs: rank cheaply, try the likely, and go on until it is clear.

The objective is the exhaustive sweep's: the window with the best score, or the narrowest whose
effect is enough. What is left out are runs that can no longer change the answer:

    1.  how large a share of the full swap every layer makes, to first order, from one run per
        prompt (attribution);
    2.  the full swap, once per prompt: the scale of all effects, which is made surer where it
        matters;
    3.  the windows that these favour, on one prompt and seed: for `width: auto` narrow ones
        first, and wider ones only where none of these is enough;
    4.  where none of them is enough, windows that together hold every layer, and those around the
        best of them, so that nothing is missed because the ranking was wrong; on two prompts where
        none does half of what is wanted, since one alone then says little of which does most;
    5.  more prompts and seeds for the best and for what is not yet clearly behind it;
    6.  the best one's neighbours, on every prompt but where two runs leave them far behind, and the
        best itself on at least two seeds of each, until it is clear that it is enough, or its
        effect is known to `PRECISION`.

Windows are compared on the same prompts and seeds, so that what these differ in cancels.
"""

from collections.abc import Sequence

from loco_cli.layers import LayerSet, sliding_windows
from loco_cli.localization import N_STDERRS_APART
from loco_cli.localizing.scoreboard import (
    N_FIRST_RUNS,
    N_RIVALS,
    PRECISION,
    Estimate,
    Scoreboard,
)

N_STEPS = 5  # steps of a run that are replayed to rank the layers; ranks hold from three on
N_PASSES = 4  # UNet calls per replayed step: full swap, original, and two for its backward pass
PROMISING_SHARE = 0.5  # share of the wanted effect; a first run below it calls for a second look
N_BLOCKS = 16  # windows that hold all layers side by side in a second look; overlapping, twice that
# a row is one window on every prompt and seed
_N_ROWS_PER_COMPARED = 5  # rows of the exhaustive sweep for one that comparing may cost
_MIN_ROWS = 4  # rows that comparing may always cost
_MAX_ROWS = 12  # rows that it never exceeds, however many layers there are


def shortlist(shares: Sequence[float], width: int, widths: Sequence[int]) -> tuple[LayerSet, ...]:
    """
    Return the windows of one of the widths that have the largest shares.

    Of a single width four; of several widths three of the narrowest, and one less of each next.
    """
    windows = sorted(
        sliding_windows(len(shares), width),
        key=lambda layers: -sum(shares[layer] for layer in layers),
    )
    return tuple(windows[: 4 if len(widths) == 1 else max(1, 3 - widths.index(width))])


def cover(n_layers: int, width: int) -> tuple[LayerSet, ...]:
    """
    Return windows that hold every layer and overlap by half.

    They are wider than `width` where there would be more than twice `N_BLOCKS` of that.
    """
    if n_layers - width >= 2 * N_BLOCKS:
        width = max(width, -(-n_layers // N_BLOCKS))
    starts = range(0, n_layers - width, max(1, -(-width // 2)))
    return tuple(LayerSet.window(i, i + width) for i in (*starts, n_layers - width))


def around(layers: LayerSet, width: int, n_layers: int) -> tuple[LayerSet, ...]:
    """Return the windows of `width` that lie in `layers`, or one layer beside them."""
    low, high = max(0, layers[0] - 1), min(n_layers, layers[-1] + 2)
    return tuple(LayerSet.window(i, i + width) for i in range(low, high - width + 1))


def _neighbours(layers: LayerSet, n_layers: int, *, is_auto: bool) -> tuple[LayerSet, ...]:
    """Return the windows one layer beside this one and, for `width: auto`, those one narrower."""
    width = len(layers)
    found = [w for w in around(layers, width, n_layers) if w != layers]
    if is_auto and width > 1:
        found += [LayerSet(layers[:-1]), LayerSet(layers[1:])]
    return tuple(found)


def allowance(n_windows: int, n_pairs: int) -> int:
    """Return after how many pictures nothing more is tried beside the best."""
    return min(max(n_windows // _N_ROWS_PER_COMPARED, _MIN_ROWS), _MAX_ROWS) * n_pairs


def max_images(n_layers: int, widths: Sequence[int], n_pairs: int) -> int:
    """
    Return how many pictures a search for a window of one of the widths makes at most.

    Past its allowance it ends the round that it is in, and runs the original, the full swap and
    the best on every prompt and seed. A look at all layers comes on top.
    """
    n_windows = sum(n_layers - width + 1 for width in widths)
    blocks = cover(n_layers, widths[-1])
    n_near = N_RIVALS * len(around(blocks[len(blocks) // 2], widths[-1], n_layers))
    looked = min(n_windows, len(blocks) + n_near) * min(N_FIRST_RUNS, n_pairs)
    spent = allowance(n_windows, n_pairs) + looked + (2 * N_RIVALS + _MIN_ROWS) * n_pairs
    return min((n_windows + 2) * n_pairs, spent)


def windows_needing_runs(
    board: Scoreboard, best: Estimate, n_prompts: int, n_all: int, *, may_compare: bool
) -> dict[LayerSet, int]:
    """
    Return which windows need how many runs before the best is sure; none means that it is.

    First runs decide what goes on to every prompt. The best is then run twice per prompt, and on
    until it is clearly enough or its effect is precise; one that is clearly not enough once per
    prompt, and on while another is as good, unless it is clearly not half of that. What all runs
    there are would not make clear, from what two per prompt have shown, is left open.
    """

    def more(n: int) -> int:
        return min(n_prompts if n < n_prompts else 2 * n, n_all)

    is_below = best.effect + N_STDERRS_APART * best.stderr < board.enough
    least = min(n_prompts if is_below else 2 * n_prompts, n_all)
    is_hopeless = best.effect + N_STDERRS_APART * best.stderr < PROMISING_SHARE * board.enough
    last = min((1 if is_hopeless else 2) * n_prompts, n_all) if is_below else n_all
    rivals = [
        rival
        for rival in (board.rivals(best) if may_compare else ())
        if min(best.n, rival.n) < n_all
        if min(best.n, rival.n) < 2 * n_prompts or board.may_be_told_apart(best, rival, n_all)
    ][:N_RIVALS]
    n_wanted = {
        rival.layers: more(rival.n)
        for rival in rivals
        if rival.n < max(best.n, n_prompts) and rival.n < n_all
    }
    is_vague = best.stderr > PRECISION and board.may_be_settled(best, n_all)
    if best.n < least or (best.n < last and not n_wanted and (rivals or is_vague)):
        n_wanted[best.layers] = more(best.n)
    n_full = len(board.values[board.everything])
    if board.is_auto and n_full < n_all and board.is_scale_in_doubt(best):
        n_wanted[board.everything] = more(n_full)
    if may_compare and best.n >= min(n_prompts, n_all):
        for window in _neighbours(best.layers, board.n_layers, is_auto=board.is_auto):
            if len(board.values.get(window, ())) < min(N_FIRST_RUNS, n_all):
                n_wanted[window] = min(N_FIRST_RUNS, n_all)
    return n_wanted
