"""
A recipe's method on a model: what it edits and needs, and its solution.

Nothing here imports torch, so that a plan is refused where its edit would be; a method's own
module, which the registry names, is imported where it solves.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

from loco_cli.errors import RequestError, printable
from loco_cli.families.spec import TextEncoderSpec
from loco_cli.layers import LayerSet
from loco_cli.methods import EDIT_METHODS, EditMethod, in_words
from loco_cli.models.locate import LocatedModel
from loco_cli.recipe import EditSettings, Recipe

if TYPE_CHECKING:
    from loco_cli.editing.deltas import Solved
    from loco_cli.encoders.encode import CheckpointEncoder

_LEAVE_OUT = "or use `--method locoedit`"
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


def first_out_projection(encoder: TextEncoderSpec) -> str:
    """Return the tensor by which a text encoder's first self-attention writes its answer."""
    name, _ = encoder.out_projection
    return f"{encoder.self_attention(0)}.{name}.weight"


def unreached(located: LocatedModel, recipe: Recipe) -> tuple[str, ...]:
    """Return a phrase for each part that reads the prompt past an edit: none does past encoders."""
    if EDIT_METHODS[recipe.edit.method].site == "text-encoder":
        return ()
    return located.spec.unreached(is_pooling_edited=recipe.edit.pooled)


def doubts(located: LocatedModel, recipe: Recipe) -> tuple[str, ...]:
    """Return a sentence where a method applies to a model, and the papers found it wanting."""
    n_encoders = len(located.spec.context.encoders)
    if EDIT_METHODS[recipe.edit.method].site == "layers" or n_encoders == 1:
        return ()
    return (
        f"`{located.name}` has {n_encoders} text encoders, in which the papers found no single "
        "causal state: the edit may well not hold",
    )


def check_method(located: LocatedModel, recipe: Recipe) -> None:
    """Raise RequestError where a method does not apply to a model, or not as asked."""
    if recipe.edit.preserve_form == "null-space" and recipe.preserve == "none":
        raise RequestError(
            "`preserve: none` leaves `edit.preserve_form: null-space` nothing to keep",
            "list what to preserve, or leave `preserve_form` out",
        )
    method = EDIT_METHODS[recipe.edit.method]
    _check_settings(method, recipe.edit)
    if recipe.edit.pooled and located.spec.context.pooling is None:
        raise RequestError(
            f"`{located.name}` pools no prompt by weights of its UNet",
            "leave `edit.pooled` out",
        )
    if method.site == "text-encoder":
        _check_encoders(located, recipe)
    elif any(layer.text.scope != "prompt" for layer in located.spec.layers):
        raise RequestError(
            f"layers of `{located.name}` read keys that exist only during a run, and "
            f"method `{method.name}` takes them from the prompt alone"
        )
    if "neurons" in method.settings:
        check_neurons(located, recipe, named_layers(located, recipe))


def _check_settings(method: EditMethod, settings: EditSettings) -> None:
    """Raise RequestError for a setting that is not the default and that the method never reads."""
    for key in dict.fromkeys(key for row in EDIT_METHODS.values() for key in row.settings):
        value = getattr(settings, key)
        if key in method.settings or value == EditSettings.model_fields[key].default:
            continue
        readers = in_words(row.name for row in EDIT_METHODS.values() if key in row.settings)
        what, hint = _UNREAD_SETTINGS.get(key, _UNREAD_SETTING)
        raise RequestError(
            what.format(key=key, method=method.name, value=value), hint.format(readers=readers)
        )


def _check_encoders(located: LocatedModel, recipe: Recipe) -> None:
    """Raise RequestError where no first self-attention of CLIP's can be edited, as asked."""
    method, encoders = recipe.edit.method, located.spec.context.encoders
    if recipe.edit.layer_range != "auto":
        raise RequestError(
            f"method `{method}` edits the text encoder, and no layers of the UNet",
            f"leave the layers out (`--set edit.layer_range=auto`), {_LEAVE_OUT}",
        )
    if any(encoder.kind != "clip" for encoder in encoders):
        raise RequestError(
            f"method `{method}` rests on a causal state that CLIP's text encoder has; that of "
            f"`{located.name}` is T5, which looks both ways, and the papers found none in it",
            "use `--method locoedit`",
        )
    if not located.has_encoders:
        raise RequestError(
            f"method `{method}` edits the text encoder, and `{printable(located.path)}` has "
            "none of "
            "its own",
            f"give the whole checkpoint, {_LEAVE_OUT}",
        )
    if len(encoders) > 1 and recipe.edit.encoders != "all":
        raise RequestError(
            f"`{located.name}` has {len(encoders)} text encoders, in which the papers found no "
            f"single causal state that method `{method}` could edit",
            f"edit all of them with `--set edit.encoders=all`, {_LEAVE_OUT}",
        )


def check_neurons(
    located: LocatedModel, recipe: Recipe, layers_of: Sequence[tuple[int, ...]] | None
) -> None:
    """
    Raise RequestError where neurons are asked for that no layer of an edit has.

    While the layers are still to be found, any of the model may be one of them.
    """
    asked = recipe.edit.neurons
    for entry in recipe.edits:
        if len(entry.edit_pairs) < 2:
            raise RequestError(
                f"neurons of `{entry.subject}` are ranked by their spread over prompts, and there "
                "is one source prompt",
                "give more under `source`",
            )
    spec, everywhere = located.spec, tuple(range(located.spec.n_layers))
    for layer in sorted({layer for layers in layers_of or (everywhere,) for layer in layers}):
        d_out = min(projection.d_out for projection in spec.layers[layer].projections)
        if asked != "auto" and asked > d_out:
            raise RequestError(
                f"{asked} neurons are asked for, layer {layer} of `{located.name}` has {d_out} in "
                "each projection",
                "ask for fewer with `--neurons`, or name the layers",
            )


def named_layers(located: LocatedModel, recipe: Recipe) -> tuple[LayerSet, ...] | None:
    """
    Return the layers that recipe or papers name for each edit, None where they must be found.

    A method that edits no layers has none for each.
    """
    if EDIT_METHODS[recipe.edit.method].site == "text-encoder":
        return (LayerSet(),) * len(recipe.edits)
    return layers_named(located, recipe)


def layers_named(located: LocatedModel, recipe: Recipe) -> tuple[LayerSet, ...] | None:
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


def solve(
    located: LocatedModel,
    recipe: Recipe,
    layers_of: Sequence[LayerSet],
    encoder: "CheckpointEncoder",
) -> "Solved":
    """
    Return the solved edit of a recipe whose edits touch the given layers, one set for each edit.

    The sets are empty for a method that edits no layers of the UNet.
    """
    started = time.monotonic()
    method = import_module(EDIT_METHODS[recipe.edit.method].module)
    solved: Solved = method.solve(located, recipe, layers_of, encoder)
    return replace(solved, seconds=time.monotonic() - started)
