"""
Contribution: rank the layers by what the subject's tokens add to the picture, without any swap.

    symbol    here             what
    A, V      of a layer       attention of the picture's positions to the tokens, and their values
    W_o       of a layer       the projection of all heads' sums, its bias left out
    tok       `subject_mask`   the subject's tokens and all behind them

A layer's contribution is the mean over positions, steps and prompts of |W_o (A[:, tok] V[tok])|,
in one generation per prompt. Windows are tried in the order of their sums, until one has the effect
that is asked for: what adds most need not matter, as layers may read words that they make nothing
of. An encoder that reads from left to right tells the end of the prompt, padding with it, all that
it knows of the subject, and the layers read it there: the subject's own tokens alone rank the
layers of `tiny` wrongly, and so does the share of a layer's output that these make.

Zarei et al. 2025, arXiv:2505.18832, which names diffusion transformers and takes the subject alone.
"""

from collections.abc import Sequence

from loco_cli.layers import LayerSet, sliding_windows

# windows of the first width; of 26 concepts of `tiny` the first was right 22 times, then the others
N_FIRST = 3


def likely_windows(contributions: Sequence[float], widths: Sequence[int]) -> tuple[LayerSet, ...]:
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
            : 1 if turn else N_FIRST
        ]
    )


def max_images(widths: Sequence[int]) -> int:
    """Return how many windows are tried at most: `max_images((1, 2, 4)) == 5`."""
    return N_FIRST - 1 + len(widths)


def subject_mask(
    offsets: Sequence[tuple[int, int]],  # of every token, in characters of the prompt
    start: int,  # where the subject begins
    n_tokens: int,
) -> list[bool]:
    """Return for each token whether it is the subject's or stands behind it."""
    first = next(i for i, (_, end) in enumerate(offsets) if end > start)
    return [i >= first for i in range(n_tokens)]
