"""
The common interface of the editing methods, and the checks that they share.

Each row of `EDIT_METHODS` names a module with three functions:

    check     refuse a recipe that the method cannot edit, before anything is loaded
    tensors   return the tensors that change
    solve     return the solved edit

A module imports torch only in `solve`, so a plan checks a recipe without torch.
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

TensorKey = tuple[str, str]  # the component and diffusers' name of a tensor

# message and hint for a setting that a method ignores, by the setting if it has its own
_UNUSED_SETTING = (
    "method `{method}` does not use `edit.{key}`",
    "leave it out, or use `--method {readers}`",
)
_UNUSED_SETTINGS = {
    "pooled": (
        "method `{method}` cannot edit the pooling of a prompt",
        "omit `edit.pooled`, or use `--method {readers}`",
    ),
    "neurons": (
        "method `{method}` does not edit neurons, but `neurons` is {value}",
        "omit `--neurons`, or use `--method {readers}`",
    ),
}


class EditModule(Protocol):
    """The module of an editing method."""

    def check(
        self, located: LocatedModel, recipe: Recipe, layers_of: Sequence[LayerSet] | None
    ) -> None:
        """
        Raise RequestError if the method cannot edit the model as the recipe asks.

        `layers_of` has the layers of each edit, or is None if a search has yet to find them.
        """

    def tensors(
        self, located: LocatedModel, recipe: Recipe, layers_of: Sequence[LayerSet]
    ) -> tuple[TensorKey, ...]:
        """Return the tensors that change, given the layers of each edit."""

    def solve(
        self,
        located: LocatedModel,
        recipe: Recipe,
        layers_of: Sequence[LayerSet],
        encoder: "CheckpointEncoder",
    ) -> "SolvedEdit":
        """
        Solve a recipe, given the layers of each edit.

        The layer sets are empty for a method that edits the text encoder.
        """


def module_of(settings: EditSettings) -> EditModule:
    """Import the module of the method in the settings."""
    return cast(EditModule, import_module(EDIT_METHODS[settings.method].module))


def check_edit(located: LocatedModel, recipe: Recipe) -> None:
    """
    Check a recipe against a model, from headers alone.

    Args:
        located: The model to edit.
        recipe: The recipe with its edits and settings.

    Raises:
        RequestError: The method cannot edit this model, does not use a setting of the recipe, or
            does not have a layer that the recipe names.
    """
    if recipe.edit.preserve_form == "null-space" and recipe.preserve == "none":
        raise RequestError(
            "`edit.preserve_form: null-space` needs prompts to preserve, but `preserve` is `none`",
            "list what to preserve, or omit `preserve_form`",
        )
    _check_settings(EDIT_METHODS[recipe.edit.method], recipe.edit)
    module_of(recipe.edit).check(located, recipe, known_layers(located, recipe))


def solve(
    located: LocatedModel,
    recipe: Recipe,
    layers_of: Sequence[LayerSet],
    encoder: "CheckpointEncoder",
) -> "SolvedEdit":
    """
    Solve a recipe with its method.

    Args:
        located: The model to edit; only the tensors that change are read.
        recipe: The recipe with its edits and settings.
        layers_of: The layers of each edit, empty for an edit of the text encoder.
        encoder: The text encoder of the model.

    Returns:
        The change of each tensor, the manifest entries, and the duration in seconds.

    Raises:
        EditError: The system has no finite answer, or the edit changes nothing.
        ConceptError: A source prompt contains no token of its subject.
    """
    started = time.monotonic()
    solved = module_of(recipe.edit).solve(located, recipe, layers_of, encoder)
    return replace(solved, seconds=time.monotonic() - started)


def layer_tensors(located: LocatedModel, layers_of: Sequence[LayerSet]) -> tuple[TensorKey, ...]:
    """Return the key and value projections of all layers that change, each once."""
    spec, layers = located.spec, sorted({layer for layers in layers_of for layer in layers})
    return tuple(
        (spec.network, name) for layer in layers for name in spec.layers[layer].tensor_names()
    )


def check_prompt_keys(located: LocatedModel, recipe: Recipe) -> None:
    """Raise RequestError if the keys of a layer do not follow from the prompt alone."""
    spec = located.spec
    is_sampled = spec.context.kind == "sampled"
    if is_sampled or any(layer.text.scope != "prompt" for layer in spec.layers):
        raise RequestError(
            f"method `{recipe.edit.method}` computes keys from the prompt alone, but in "
            f"`{located.name}` they exist only during a run"
        )


def known_layers(located: LocatedModel, recipe: Recipe) -> tuple[LayerSet, ...] | None:
    """
    Return the layers of each edit, or None if a search has to find them.

    The layer sets are empty for a method that edits the text encoder.
    """
    if EDIT_METHODS[recipe.edit.method].site == "text-encoder":
        return (LayerSet(),) * len(recipe.edits)
    return layers_from_recipe(located, recipe)


def layers_from_recipe(located: LocatedModel, recipe: Recipe) -> tuple[LayerSet, ...] | None:
    """
    Return the layers of each edit from the recipe or the papers, or None for `auto`.

    Raises:
        RequestError: The model has no such layer, or the papers name none for a concept's kind.
    """
    named, listed = recipe.edit.layer_range, recipe.edit.layers
    if named == "auto":
        return None
    if named == "published":
        return tuple(_published(located, entry.kind) for entry in recipe.edits)
    n_layers = located.spec.n_layers
    last = named[1] - 1 if named else max(listed or ())
    if last >= n_layers:  # the check precedes the layer set, which a typo could make huge
        raise RequestError(
            f"layer {last} does not exist: `{located.name}` has layers 0 to {n_layers - 1}"
        )
    return (LayerSet.from_keys(named, listed),) * len(recipe.edits)


def _published(located: LocatedModel, kind: str) -> LayerSet:
    published = located.spec.published_ranges.get(kind)
    if published is None:
        raise RequestError(
            f"no paper reports layers for kind `{kind}` in `{located.spec.name}`",
            "use `layer_range: auto`, or name the layers",
        )
    return LayerSet.window(*published)


def unreached_parts(located: LocatedModel, recipe: Recipe) -> tuple[str, ...]:
    """Return a phrase for each part of the model that still reads the unedited prompt."""
    if EDIT_METHODS[recipe.edit.method].site == "text-encoder":
        return ()
    return located.spec.unreached(is_pooling_edited=recipe.edit.pooled)


def caveats(located: LocatedModel, recipe: Recipe) -> tuple[str, ...]:
    """Return a warning if the papers found that the method does not work in such a model."""
    n_encoders = len(located.spec.context.encoders)
    if EDIT_METHODS[recipe.edit.method].site == "layers" or n_encoders == 1:
        return ()
    return (
        f"`{located.name}` has {n_encoders} text encoders, and the papers found no single causal "
        "state in such models: the edit may fail",
    )


def _check_settings(method: EditMethod, settings: EditSettings) -> None:
    """
    Raise RequestError for a setting that differs from its default and that the method ignores.
    """
    for key in dict.fromkeys(key for row in EDIT_METHODS.values() for key in row.settings):
        value = getattr(settings, key)
        if key in method.settings or value == EditSettings.model_fields[key].default:
            continue
        readers = join_choices(row.name for row in EDIT_METHODS.values() if key in row.settings)
        message, hint = _UNUSED_SETTINGS.get(key, _UNUSED_SETTING)
        raise RequestError(
            message.format(key=key, method=method.name, value=value), hint.format(readers=readers)
        )
