"""
The search over ridges that measures the strength of an edit, and its cost.

A rung is a ridge in given layers. The search starts at the ridge that `ridge: auto` would use
without pictures. If that rung forgets too little, it tries stronger ridges; if it keeps too little,
it tries gentler ones. It takes the first rung that reaches the target. If no ridge forgets enough,
it widens the layers and starts again. If nothing reaches the target, it takes the best rung.

It does not start at the gentlest ridge: the first ridge that barely passes a few validation prompts
fails on other prompts.
"""

from collections.abc import Callable, Sequence

from loco_cli.editing.model_edit import ModelEdit
from loco_cli.evaluating.questions import validation_questions
from loco_cli.families.spec import ModelSpec
from loco_cli.layers import LayerSet
from loco_cli.manifest import StrengthTrial
from loco_cli.methods import EDIT_METHODS
from loco_cli.plan import PlannedRuns
from loco_cli.recipe.record import Recipe

MAX_WIDENINGS = 2  # times that the layers may be widened
N_COMPLETED_RUNGS = 3  # best rungs judged on all prompts if none reaches the target

# the last argument is True if the trial must not stop early
Attempt = Callable[[tuple[LayerSet, ...], str, bool], StrengthTrial]
# the last argument holds the indices of the edits to widen
Widen = Callable[[tuple[LayerSet, ...], Sequence[int]], tuple[LayerSet, ...]]


def climb(
    ladder: Sequence[str],
    start: int,
    layers_of: tuple[LayerSet, ...],
    attempt: Attempt,
    widen: Widen,
    target: float,
) -> tuple[tuple[StrengthTrial, ...], int]:
    """
    Search the ladder for the first rung that reaches the target.

    Layers are widened only if no ridge forgets enough, since more layers forget more but do not
    keep more. Only edits that fall short get wider layers.

    Args:
        ladder: The ridges, from gentle to strong.
        start: The index of the first ridge to try.
        layers_of: The layers of each edit.
        attempt: Makes the edit of one rung and returns its figures.
        widen: Returns wider layers, or the same layers if there are no more.
        target: The share that `forgotten`, `became` and `kept` must each reach.

    Returns:
        All trials in their order, and the index of the chosen one.
    """
    tried: list[StrengthTrial] = []
    for _ in range(1 + MAX_WIDENINGS):
        n_tried_before = len(tried)
        tried.append(attempt(layers_of, ladder[start], False))
        stronger, gentler = ladder[start + 1 :], ladder[:start][::-1]
        for ridge in (*gentler, *stronger) if tried[-1].forgets(target) else stronger:
            if tried[-1].reaches(target):
                break
            tried.append(attempt(layers_of, ridge, False))
        if tried[-1].reaches(target):
            return tuple(tried), len(tried) - 1
        wider = widen(layers_of, tried[-1].short)
        if any(one.forgets(target) for one in tried[n_tried_before:]) or wider == layers_of:
            break
        layers_of = wider
    return _best(tried, attempt, target)


def _max_images(n_forget: int, n_keep: int, n_rungs: int, *, is_widened: bool) -> int:
    """Return the upper limit of pictures in a search, including those before the edit."""
    n_trials = n_rungs * (1 + MAX_WIDENINGS) if is_widened else n_rungs
    n_prompts = n_forget + n_keep
    n_completing = N_COMPLETED_RUNGS * n_prompts
    return n_prompts + n_trials * n_forget + n_rungs * n_keep + n_completing


def _best(
    tried: list[StrengthTrial], attempt: Attempt, target: float
) -> tuple[tuple[StrengthTrial, ...], int]:
    """Complete the most promising trials, and choose the best; ties go to the first."""
    promising = sorted(range(len(tried)), key=lambda i: -tried[i].edited_mean)[:N_COMPLETED_RUNGS]
    for i in promising:
        if not tried[i].forgets(target):
            tried[i] = attempt(tried[i].layers, tried[i].ridge, True)
    return tuple(tried), max(sorted(promising), key=lambda i: tried[i].overall_mean)


def cost_of_strength(edit: ModelEdit) -> PlannedRuns | None:
    """Return the upper limit of the cost of measuring a strength, or None if it is fixed."""
    recipe, spec = edit.recipe, edit.located.spec
    if not recipe.edit.is_measured:
        return None
    prompts = validation_questions(spec, recipe)
    n_forget = sum(question.edit is not None for question in prompts)
    n_pictures = _max_images(
        n_forget,
        len(prompts) - n_forget,
        len(EDIT_METHODS[recipe.edit.method].ladder),
        is_widened=edit.layers_of is None,
    )
    return PlannedRuns.of(n_pictures, trial_sampling(spec, recipe))


def trial_sampling(spec: ModelSpec, recipe: Recipe) -> tuple[int, float]:
    """
    Return steps and guidance of the trial pictures, which take half the steps of a localization.

    The scorer recognises concepts in them just as well, and at equal cost more prompts give more
    information than more steps.
    """
    steps, guidance = spec.sampling(recipe.localize.steps, recipe.localize.guidance)
    return (steps + 1) // 2, guidance
