"""What a localization needs; each failure is a sentence."""

from loco_cli.editing.methods import check_neurons, layers_named, named_layers
from loco_cli.errors import RequestError
from loco_cli.layers import LayerSet, sliding_windows
from loco_cli.models.locate import LocatedModel, check_parts, check_steps
from loco_cli.recipe import LocalizeSettings, Recipe

_LAYER_KEYS = ("edit.layer_range", "edit.layers")
_SEARCH_KEYS = ("localize.search", "localize.width", "localize.window", "localize.effect")


def check_localize(located: LocatedModel, settings: LocalizeSettings) -> None:
    """Raise where the sweep cannot be made as asked, or the model makes no pictures."""
    if settings.method == "causal-trace":
        raise RequestError(
            "causal tracing names states, and no layers that an edit could be made in",
            "use `--method locogen`, or name the layers with `--layers`",
        )
    for name in ("component", "noise"):
        if getattr(settings, name) is not None:
            raise RequestError(
                f"`--{name}` belongs to causal tracing", "add `--method causal-trace`"
            )
    if settings.method == "neurons":
        raise RequestError(
            "neurons are ranked in layers that are known, and find none",
            "use `--set localize.method=locogen`, or name the layers",
        )
    check_parts(located)
    _check_window(settings)
    if settings.width != "auto":
        sliding_windows(located.spec.n_layers, settings.width)
    if settings.pooled and not located.spec.unreachable:
        raise RequestError(
            f"`{located.name}` has no pooled prompt to swap: it is read in the layers alone",
            "leave `--pooled` out",
        )
    check_steps(settings.steps)


def _check_window(settings: LocalizeSettings) -> None:
    if settings.window != "set":
        return
    if settings.width != "auto":
        raise RequestError(
            f"`--width {settings.width}` is that of a range; a set has as many layers as it takes",
            "leave one of `--width` and `--window set` out",
        )
    if settings.search == "exhaustive":
        raise RequestError(
            "`--search exhaustive` tries every range of layers; of sets there are too many",
            "leave one of `--search exhaustive` and `--window set` out",
        )


def check_find_neurons(located: LocatedModel, recipe: Recipe) -> None:
    """Raise where the neurons of a recipe's concepts cannot be listed as asked."""
    _ = located.texts
    layers_of = named_layers(located, recipe)
    check_neurons(located, recipe, layers_of)
    # the layers are found by LocoGen where none are named
    check_localize(located, recipe.localize.model_copy(update={"method": "locogen"}))


def check_unused(recipe: Recipe) -> None:
    """Raise RequestError for settings of a localization that its method does not read."""
    method, asked = recipe.localize.method, recipe.overrides
    unread = {"edit.neurons": "`--method neurons`"}
    if method == "causal-trace":
        unread |= dict.fromkeys(_SEARCH_KEYS, "the methods that look for layers")
    if method == "contribution":
        unread |= {"localize.search": "`--method locogen` and `--method neurons`"}
    if method != "locogen":
        unread |= dict.fromkeys(_LAYER_KEYS, "`--method locogen` and `--method neurons`")
    for key, readers in unread.items():
        if key in asked:
            raise RequestError(
                f"`{key}` is set, which method `{method}` does not read", f"it is for {readers}"
            )
    if _are_layers_asked(recipe):
        for key in ("localize.search", "localize.width", "localize.window"):
            if key in asked:
                raise RequestError(
                    f"`{key}` is set, and the layers are named: none are looked for",
                    "leave one of the two out",
                )


def scored_layers(located: LocatedModel, recipe: Recipe) -> tuple[LayerSet, ...] | None:
    """
    Return the layers that LocoGen is to score for each edit, None where it is to look for them.

    Layers that a recipe's file names are those of its edit, which can be looked for all the same.
    """
    named = layers_named(located, recipe) if _are_layers_asked(recipe) else None
    return None if named is None else tuple(map(LayerSet, named))


def _are_layers_asked(recipe: Recipe) -> bool:
    return (
        recipe.localize.method == "locogen"
        and recipe.edit.layer_range != "auto"
        and any(key in recipe.overrides for key in _LAYER_KEYS)
    )
