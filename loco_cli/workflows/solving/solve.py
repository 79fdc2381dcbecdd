"""From a recipe and its layers to what is added to each tensor, by the method that is asked for."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from loco_cli.recipe import Recipe
from loco_cli.runtime.encode import CheckpointEncoder
from loco_cli.workflows.opening.locate import Located
from loco_cli.workflows.solving import diffquickfix, locoedit, neurons
from loco_cli.workflows.solving.changes import Solved

Solve = Callable[[Located, Recipe, Sequence[tuple[int, ...]], CheckpointEncoder], Solved]

_METHODS: Mapping[str, Solve] = {
    "locoedit": locoedit.solve,
    "diffquickfix": diffquickfix.solve,
    "neurons": neurons.solve,
}


def solve(
    located: Located,
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
