"""From a recipe and its layers to what is added to each tensor, by the method that is asked for."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from loco_cli.editing import diffquickfix
from loco_cli.editing import solve_locoedit as locoedit
from loco_cli.editing import solve_neurons as neurons
from loco_cli.editing.deltas import Solved
from loco_cli.encoders.encode import CheckpointEncoder
from loco_cli.models.locate import LocatedModel
from loco_cli.recipe import Recipe

Solve = Callable[[LocatedModel, Recipe, Sequence[tuple[int, ...]], CheckpointEncoder], Solved]

_METHODS: Mapping[str, Solve] = {
    "locoedit": locoedit.solve,
    "diffquickfix": diffquickfix.solve,
    "neurons": neurons.solve,
}


def solve(
    located: LocatedModel,
    recipe: Recipe,
    layers_of: Sequence[tuple[int, ...]],
    encoder: CheckpointEncoder,
) -> Solved:
    """
    Return the solved edit of a recipe whose edits touch the given layers, one tuple for each edit.

    The tuples are empty for a method that edits no layers of the UNet.
    """
    started = time.monotonic()
    solved = _METHODS[recipe.edit.method](located, recipe, layers_of, encoder)
    return replace(solved, seconds=time.monotonic() - started)
