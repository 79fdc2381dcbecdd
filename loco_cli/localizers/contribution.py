"""
Contribution: rank the layers by what the subject's tokens add to the picture, without any swap.

    symbol    here             what
    A, V      of a layer       attention of the picture's positions to the tokens, and their values
    W_o       of a layer       the projection of all heads' sums, its bias left out
    tok       `is_spoken_of`   the subject's tokens and all behind them

A layer's contribution is the mean over positions, steps and prompts of |W_o (A[:, tok] V[tok])|, in
one generation per prompt; the window with the largest sum is chosen. An encoder that reads from
left to right tells the end of the prompt, padding with it, all that it knows of the subject, and
the layers read it there: the subject's own tokens alone rank the layers of `tiny` wrongly.

Zarei et al. 2025, arXiv:2505.18832, which names diffusion transformers and takes the subject alone.
"""

from collections.abc import Sequence

from loco_cli.layers import LayerWindow, sliding_windows


def chosen_windows(
    contributions: Sequence[float], widths: Sequence[int]
) -> tuple[LayerWindow, ...]:
    """Return for each width the window that adds most, the first of equals."""

    def total(window: LayerWindow) -> float:
        return sum(contributions[layer] for layer in window)

    return tuple(max(sliding_windows(len(contributions), w), key=total) for w in widths)


def is_spoken_of(
    offsets: Sequence[tuple[int, int]],  # of every token, in characters of the prompt
    start: int,  # where the subject begins
    n_tokens: int,
) -> list[bool]:
    """Return for each token whether it is the subject's or stands behind it."""
    first = next(i for i, (_, end) in enumerate(offsets) if end > start)
    return [i >= first for i in range(n_tokens)]
