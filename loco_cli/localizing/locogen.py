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

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from loco_cli.concept import ConceptKind, PromptPair
from loco_cli.interventions import Run, SwapPrompt
from loco_cli.layers import LayerSet, sliding_windows
from loco_cli.localization import Better, WindowScore, best_score

AUTO_WIDTHS = (1, 2, 3, 4)  # tried in this order for `width: auto`, until one is enough


@dataclass(frozen=True)
class Candidate:
    """Layers to be swapped together; none is the original run, all is the full swap."""

    layers: tuple[int, ...]


@dataclass(frozen=True)
class Trial:
    """A run of the sweep, the candidate that it is of, and the caption it is scored against."""

    candidate: Candidate
    run: Run
    caption: str


def plan(
    candidates: Sequence[Candidate],
    pairs: Sequence[PromptPair],
    seeds: Sequence[int],
    kind: ConceptKind,
    *,
    with_pooled: bool = False,
) -> tuple[Trial, ...]:
    """
    Return one trial per candidate, prompt pair and seed, candidates of a pair and seed together.

    Style and object are scored against the source prompt, a fact against the target prompt. With
    `with_pooled` each swap is also one of the prompt that is read past the layers.
    """
    return tuple(
        Trial(
            candidate,
            Run(pair.source, seed, SwapPrompt(candidate.layers, pair.target, with_pooled)),
            pair.target if kind == "fact" else pair.source,
        )
        for pair in pairs
        for seed in seeds
        for candidate in candidates
    )


def widths_of(width: int | Literal["auto"]) -> tuple[int, ...]:
    """Return the widths to try, narrowest first."""
    return AUTO_WIDTHS if width == "auto" else (width,)


def windows_of(width: int | Literal["auto"], n_layers: int) -> tuple[LayerSet, ...]:
    """Return every window of the widths to try, narrow ones first."""
    return tuple(w for width in widths_of(width) for w in sliding_windows(n_layers, width))


def candidates_of(windows: Sequence[Iterable[int]], n_layers: int) -> tuple[Candidate, ...]:
    """Return the original run, the full swap, and every window, each once."""
    windows_and_all = (tuple(range(n_layers)), *map(tuple, windows))
    return (Candidate(()), *map(Candidate, dict.fromkeys(windows_and_all)))


def rank(
    trials: Sequence[Trial],
    scores: Sequence[float],  # one per trial
    windows: Sequence[Iterable[int]],
    n_layers: int,
) -> tuple[float, float, tuple[WindowScore, ...]]:
    """Return the original's mean score, the full swap's, and the score of each window."""
    values: dict[tuple[int, ...], list[float]] = {}
    for trial, score in zip(trials, scores, strict=True):
        values.setdefault(trial.candidate.layers, []).append(score)
    original, target = fmean(values[()]), fmean(values[tuple(range(n_layers))])
    ranked = tuple(
        WindowScore.of(layers, values[layers], original=original, target=target)
        for layers in map(tuple, windows)
    )
    return original, target, ranked


def choose(scores: Sequence[WindowScore], better: Better, *, wanted: float | None) -> WindowScore:
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
