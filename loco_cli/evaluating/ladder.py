"""
The ladder of ridges, how a measured strength climbs it, and what that costs.

A rung is a ridge in given layers. The climb begins where a constant would be: stronger rungs are
tried where too little is forgotten, gentler ones where too little is kept, and the first that
reaches the target is taken. Where no ridge forgets enough the layers are widened, and where nothing
reaches the target the best of what was tried is taken.

It does not begin at the gentlest: what is just enough in a few prompts is not enough in others.
"""

from collections.abc import Callable, Sequence

from loco_cli.editing.model_edit import ModelEdit
from loco_cli.evaluating.questions import validation
from loco_cli.families.spec import ModelSpec
from loco_cli.layers import LayerSet
from loco_cli.manifest import StrengthTrial
from loco_cli.methods import EDIT_METHODS
from loco_cli.plan import PlannedRuns
from loco_cli.recipe.record import Recipe

N_WIDER = 2  # times that layers are widened
N_FINISHED = 3  # of the rungs that were given up, where none is enough

# the last argument: whether the trial is to be finished
Attempt = Callable[[tuple[LayerSet, ...], str, bool], StrengthTrial]
# the last argument: the edits to widen
Widen = Callable[[tuple[LayerSet, ...], Sequence[int]], tuple[LayerSet, ...]]


def climb(
    ladder: Sequence[str],
    begin: int,
    layers_of: tuple[LayerSet, ...],
    attempt: Attempt,
    widen: Widen,
    target: float,
) -> tuple[tuple[StrengthTrial, ...], int]:
    """
    Return every rung that was tried, in that order, and the index of the one to take.

    `ladder` goes from gentle to strong. Layers are widened, for the edits that fall short, where no
    ridge forgets enough in those there are: more layers forget more, and keep no more.
    """
    tried: list[StrengthTrial] = []
    for _ in range(1 + N_WIDER):
        begun = len(tried)
        tried.append(attempt(layers_of, ladder[begin], False))
        stronger, gentler = ladder[begin + 1 :], ladder[:begin][::-1]
        for ridge in (*gentler, *stronger) if tried[-1].forgets(target) else stronger:
            if tried[-1].reaches(target):
                break
            tried.append(attempt(layers_of, ridge, False))
        if tried[-1].reaches(target):
            return tuple(tried), len(tried) - 1
        wider = widen(layers_of, tried[-1].short)
        if any(one.forgets(target) for one in tried[begun:]) or wider == layers_of:
            break
        layers_of = wider
    return _best(tried, attempt, target)


def _max_images(n_forget: int, n_keep: int, n_rungs: int, *, is_widened: bool) -> int:
    """Return how many pictures a climb makes, those before the edit with them."""
    n_all = n_rungs * (1 + N_WIDER) if is_widened else n_rungs
    whole = n_forget + n_keep
    return whole + n_all * n_forget + n_rungs * n_keep + N_FINISHED * whole


def _best(
    tried: list[StrengthTrial], attempt: Attempt, target: float
) -> tuple[tuple[StrengthTrial, ...], int]:
    """Finish the most promising, and return the best of them, the first of equals."""
    promising = sorted(range(len(tried)), key=lambda i: -tried[i].moved)[:N_FINISHED]
    for i in promising:
        if not tried[i].forgets(target):
            tried[i] = attempt(tried[i].layers, tried[i].ridge, True)
    return tuple(tried), max(sorted(promising), key=lambda i: tried[i].overall)


def cost_of_strength(edit: ModelEdit) -> PlannedRuns | None:
    """Return what it takes, at most, to choose an edit's strength; None where it is fixed."""
    recipe, spec = edit.recipe, edit.located.spec
    if not recipe.edit.is_measured:
        return None
    asked = validation(spec, recipe)
    n_forget = sum(question.edit is not None for question in asked)
    n_pictures = _max_images(
        n_forget,
        len(asked) - n_forget,
        len(EDIT_METHODS[recipe.edit.method].ladder),
        is_widened=edit.layers_of is None,
    )
    return PlannedRuns.of(n_pictures, trial_sampling(spec, recipe))


def trial_sampling(spec: ModelSpec, recipe: Recipe) -> tuple[int, float]:
    """
    Return steps and guidance of the pictures that choose a strength: half as many steps.

    What a picture shows is recognised in them as well, and more prompts tell more than more steps.
    """
    steps, guidance = spec.sampling(recipe.localize.steps, recipe.localize.guidance)
    return (steps + 1) // 2, guidance
