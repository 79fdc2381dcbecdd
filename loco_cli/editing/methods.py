"""
The methods of editing as modules of one form, and the checks that they share.

The module that a row of `EDIT_METHODS` names has three functions:

    check     raise where a recipe cannot be edited as asked, before anything is loaded
    tensors   return the tensors that change
    solve     return the solved edit

No module imports torch before it solves, so that a plan is refused where its edit would be.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from loco_cli.errors import RequestError
from loco_cli.layers import LayerSet
from loco_cli.methods import EDIT_METHODS, EditMethod, join_choices
from loco_cli.models.locate import LocatedModel
from loco_cli.recipe.record import EditSettings, Recipe

if TYPE_CHECKING:
    from loco_cli.editing.deltas import SolvedEdit
    from loco_cli.encoders.encode import CheckpointEncoder

TensorKey = tuple[str, str]  # component and diffusers' name of a tensor

_UNREAD_SETTING = (
    "`edit.{key}` is set, which method `{method}` does not read",
    "it is for `--method {readers}`",
)
_UNREAD_SETTINGS = {
    "pooled": (
        "method `{method}` edits nothing that pools a prompt",
        "leave `edit.pooled` out, or use `--method {readers}`",
    ),
    "neurons": (
        "method `{method}` holds no neurons, and {value} are asked for",
        "use `--method {readers}`, or leave `--neurons` out",
    ),
}


class EditModule(Protocol):
    """The module of a method."""

    def check(
        self, located: LocatedModel, recipe: Recipe, layers_of: Sequence[LayerSet] | None
    ) -> None:
        """
        Raise RequestError where the method does not apply to a model, or not as asked.

        `layers_of` has the layers of each edit, and is None where they are still to be found.
        """

    def tensors(
        self, located: LocatedModel, recipe: Recipe, layers_of: Sequence[LayerSet]
    ) -> tuple[TensorKey, ...]:
        """Return the tensors that change, for edits in these layers."""

    def solve(
        self,
        located: LocatedModel,
        recipe: Recipe,
        layers_of: Sequence[LayerSet],
        encoder: "CheckpointEncoder",
    ) -> "SolvedEdit":
        """
        Return the solved edit of a recipe whose edits are in these layers, one set for each edit.

        The sets are empty for a method that edits no layers of the network.
        """


def module_of(settings: EditSettings) -> EditModule:
    """Return the module of the method that the settings name."""
    return cast(EditModule, import_module(EDIT_METHODS[settings.method].module))


def check_edit(located: LocatedModel, recipe: Recipe) -> None:
    """Raise RequestError where a recipe's method does not apply to a model, or not as asked."""
    if recipe.edit.preserve_form == "null-space" and recipe.preserve == "none":
        raise RequestError(
            "`preserve: none` leaves `edit.preserve_form: null-space` nothing to keep",
            "list what to preserve, or leave `preserve_form` out",
        )
    _check_settings(EDIT_METHODS[recipe.edit.method], recipe.edit)
    module_of(recipe.edit).check(located, recipe, known_layers(located, recipe))


def solve(
    located: LocatedModel,
    recipe: Recipe,
    layers_of: Sequence[LayerSet],
    encoder: "CheckpointEncoder",
) -> "SolvedEdit":
    """Return the edit that the recipe's method solves for, with the time that it took."""
    started = time.monotonic()
    solved = module_of(recipe.edit).solve(located, recipe, layers_of, encoder)
    return replace(solved, seconds=time.monotonic() - started)


def layer_tensors(located: LocatedModel, layers_of: Sequence[LayerSet]) -> tuple[TensorKey, ...]:
    """Return the key and value projections of the layers of all edits, each once."""
    spec, layers = located.spec, sorted({layer for layers in layers_of for layer in layers})
    return tuple(
        (spec.network, name) for layer in layers for name in spec.layers[layer].tensor_names()
    )


def check_prompt_keys(located: LocatedModel, recipe: Recipe) -> None:
    """Raise RequestError where a layer reads keys that do not follow from the prompt alone."""
    if any(layer.text.scope != "prompt" for layer in located.spec.layers):
        raise RequestError(
            f"layers of `{located.name}` read keys that exist only during a run, and "
            f"method `{recipe.edit.method}` takes them from the prompt alone"
        )


def known_layers(located: LocatedModel, recipe: Recipe) -> tuple[LayerSet, ...] | None:
    """
    Return the layers that recipe or papers name for each edit, None where they must be found.

    A method that edits no layers has none for each.
    """
    if EDIT_METHODS[recipe.edit.method].site == "text-encoder":
        return (LayerSet(),) * len(recipe.edits)
    return layers_from_recipe(located, recipe)


def layers_from_recipe(located: LocatedModel, recipe: Recipe) -> tuple[LayerSet, ...] | None:
    """Return the layers that recipe or papers name for each edit, whatever its method reads."""
    named, listed = recipe.edit.layer_range, recipe.edit.layers
    if named == "auto":
        return None
    if named == "published":
        return tuple(_published(located, entry.kind) for entry in recipe.edits)
    n_layers = located.spec.n_layers
    last = named[1] - 1 if named else max(listed or ())
    if last >= n_layers:  # before a set is made: a typo must not fill the memory
        raise RequestError(
            f"layer {last} does not exist: `{located.name}` has layers 0 to {n_layers - 1}"
        )
    return (LayerSet.from_keys(named, listed),) * len(recipe.edits)


def _published(located: LocatedModel, kind: str) -> LayerSet:
    published = located.spec.published_ranges.get(kind)
    if published is None:
        raise RequestError(
            f"no published layers are known for a {kind} in `{located.spec.name}`",
            "use `layer_range: auto`, or name the layers",
        )
    return LayerSet.window(*published)


def unreached_parts(located: LocatedModel, recipe: Recipe) -> tuple[str, ...]:
    """Return a phrase for each part that reads the prompt past an edit: none does past encoders."""
    if EDIT_METHODS[recipe.edit.method].site == "text-encoder":
        return ()
    return located.spec.unreached(is_pooling_edited=recipe.edit.pooled)


def caveats(located: LocatedModel, recipe: Recipe) -> tuple[str, ...]:
    """Return a sentence where a method applies to a model, and the papers found it wanting."""
    n_encoders = len(located.spec.context.encoders)
    if EDIT_METHODS[recipe.edit.method].site == "layers" or n_encoders == 1:
        return ()
    return (
        f"`{located.name}` has {n_encoders} text encoders, in which the papers found no single "
        "causal state: the edit may well not hold",
    )


def _check_settings(method: EditMethod, settings: EditSettings) -> None:
    """Raise RequestError for a setting that is not the default and that the method never reads."""
    for key in dict.fromkeys(key for row in EDIT_METHODS.values() for key in row.settings):
        value = getattr(settings, key)
        if key in method.settings or value == EditSettings.model_fields[key].default:
            continue
        readers = join_choices(row.name for row in EDIT_METHODS.values() if key in row.settings)
        what, hint = _UNREAD_SETTINGS.get(key, _UNREAD_SETTING)
        raise RequestError(
            what.format(key=key, method=method.name, value=value), hint.format(readers=readers)
        )
