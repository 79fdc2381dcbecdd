"""The layers of each edit: those that a recipe names, else those that a search finds."""

from loco_cli.recipe import Recipe
from loco_cli.report.pictures import Swept
from loco_cli.workflows.opening.locate import Located
from loco_cli.workflows.opening.machine import Machine
from loco_cli.workflows.planning.checks import named_layers
from loco_cli.workflows.progress import Notify, silent


def find_layers(
    located: Located, recipe: Recipe, machine: Machine, notify: Notify = silent
) -> tuple[tuple[Swept, ...], tuple[tuple[int, ...], ...]]:
    """Return the layers of each edit, and the sweeps that had to be made to find them."""
    named = named_layers(located, recipe)
    if named is not None:
        return (), named
    from loco_cli.workflows.searching import sweep  # diffusers lives behind this line

    sweeps = sweep.run(located, recipe, machine, notify, may_scatter=True)
    return sweeps, tuple(one.localization.layer_set for one in sweeps)
