"""
What each method of an edit touches and needs; nothing here needs torch.

A method is at home in three places: here, in a module of its own beside this one that solves for
it, and in `editors`, which has its arithmetic.
"""

from collections.abc import Sequence

from loco_cli.errors import RequestError
from loco_cli.recipe import Recipe
from loco_cli.workflows.locate import Located

Touched = tuple[str, str]  # a tensor: its component, its name as diffusers writes it


def touched(
    located: Located, recipe: Recipe, layers_of: Sequence[tuple[int, ...]]
) -> tuple[Touched, ...]:
    """Return the tensors that an edit changes, whose edits are in these layers of the UNet."""
    layers = sorted({layer for layers in layers_of for layer in layers})
    return tuple(
        ("unet", name) for layer in layers for name in located.spec.layers[layer].tensor_names()
    )


def check_method(located: Located, recipe: Recipe) -> None:
    """Raise RequestError where a method does not apply to a model, or not as asked."""
    if recipe.edit.method != "locoedit":
        raise RequestError(
            f"method `{recipe.edit.method}` is not there yet", "use `--method locoedit`"
        )
