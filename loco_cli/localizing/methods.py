"""
The localization methods as modules with one interface, and the checks that they share.

Each row of `LOCALIZE_METHODS` names a module with three functions:

    check   raise an error if the recipe does not fit the model or the method
    cost    return the upper limit of pictures and UNet evaluations
    run     return one result for each edit of the recipe
"""

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from loco_cli.editing.methods import layers_from_recipe
from loco_cli.errors import RequestError
from loco_cli.layers import LayerSet, sliding_windows
from loco_cli.methods import LOCALIZE_METHODS, LocalizeMethod
from loco_cli.models.locate import LocatedModel, check_components, check_steps
from loco_cli.plan import PlannedRuns
from loco_cli.recipe.record import LocalizeSettings, Recipe

if TYPE_CHECKING:
    from loco_cli.localizing.runs import SearchContext

GivenLayers = tuple[LayerSet, ...] | None  # the layers of each edit, or None to search for them

# the cost of finding the layers, and the cost of pictures with the neurons fixed
Cost = tuple[PlannedRuns | None, PlannedRuns | None]


class _Module(Protocol):
    """The interface of a method's module."""

    def check(self, located: LocatedModel, recipe: Recipe, layers_of: GivenLayers = None) -> None:
        """Raise an error if the method cannot localize the recipe with this model."""

    def cost(
        self,
        located: LocatedModel,
        recipe: Recipe,
        layers_of: GivenLayers = None,
        *,
        allows_sets: bool = False,
        batch_size: int | None = None,
    ) -> Cost:
        """
        Return the upper limits of the search's cost and of the pictures with fixed neurons.

        Each is None if there are no such pictures. `allows_sets` includes the search for a set of
        layers. A known batch size makes the cost of a trace exact.
        """

    def run(
        self,
        context: "SearchContext",
        recipe: Recipe,
        layers_of: GivenLayers = None,
        *,
        allows_sets: bool = False,
    ) -> tuple[Any, ...]:
        """Return a `LocalizationRun` for each edit; causal tracing returns a `TraceRun`."""


def module_of(settings: LocalizeSettings) -> _Module:
    """Return the module of the method in the settings."""
    return cast(_Module, import_module(LOCALIZE_METHODS[settings.method].module))


def layer_finder_of(settings: LocalizeSettings) -> _Module:
    """Return the module of the settings' method; raise RequestError if it finds no layers."""
    finds = LOCALIZE_METHODS[settings.method].finds
    if finds == "states":
        raise RequestError(
            "causal tracing finds states, but an edit needs layers",
            "use `--method locogen`, or name the layers with `--layers`",
        )
    if finds == "neurons":
        raise RequestError(
            "method `neurons` ranks the neurons of known layers, but finds no layers",
            "use `--set localize.method=locogen`, or name the layers",
        )
    return module_of(settings)


def check_settings(settings: LocalizeSettings, layers_of: GivenLayers = None) -> None:
    """
    Raise RequestError for a setting that the method ignores.

    A setting counts if its value is not the default, from a file or from the command line.
    """
    method = LOCALIZE_METHODS[settings.method]
    for name, field in LocalizeSettings.model_fields.items():
        if name == "method" or getattr(settings, name) == field.default:
            continue
        if name not in method.settings:
            readers = _method_options(
                one for one in LOCALIZE_METHODS.values() if name in one.settings
            )
            if method.finds == "states":
                readers = "the methods that find layers"
            raise _unread(f"`localize.{name}` is set", method, readers)
        if method.finds == "layers" and layers_of and name in ("search", "width", "window"):
            raise RequestError(
                f"`localize.{name}` is set, but the layers are named, so there is no search",
                "omit one of the two",
            )


def apply_layer_options(
    located: LocatedModel, recipe: Recipe, layers: Sequence[int] | None, neurons: int | None
) -> tuple[Recipe, GivenLayers]:
    """
    Apply the command line's `--layers` and `--neurons` to a recipe.

    A method that lists neurons falls back to the layers and neurons of the recipe's edit.

    Args:
        located: The model, which determines the valid layers.
        recipe: The recipe.
        layers: The layers from the command line; a `range` if they are contiguous.
        neurons: The number of neurons per projection from the command line.

    Returns:
        The changed recipe, and the layers of each edit, or None if a search has to find them.

    Raises:
        RequestError: The method takes no layers or neurons, or the model lacks these layers.
    """
    method = LOCALIZE_METHODS[recipe.localize.method]
    if layers is not None and not method.takes_layers:
        takers = _method_options(one for one in LOCALIZE_METHODS.values() if one.takes_layers)
        raise _unread("`--layers` is set", method, takers)
    if neurons is not None and method.finds != "neurons":
        listers = _method_options(
            one for one in LOCALIZE_METHODS.values() if one.finds == "neurons"
        )
        raise _unread("`--neurons` is set", method, listers)
    named: dict[str, Any] = {} if neurons is None else {"neurons": neurons}
    if isinstance(layers, range):
        named |= {"layer_range": (layers.start, layers.stop), "layers": None}
    elif layers is not None:
        named |= {"layer_range": None, "layers": LayerSet(layers)}
    recipe = recipe.model_copy(update={"edit": recipe.edit.model_copy(update=named)})
    if layers is None and method.finds != "neurons":
        return recipe, None
    return recipe, layers_from_recipe(located, recipe)


def _unread(setting: str, method: LocalizeMethod, readers: str) -> RequestError:
    return RequestError(f"{setting}, but method `{method.name}` ignores it", f"it is for {readers}")


def _method_options(methods: Iterable[LocalizeMethod]) -> str:
    return " and ".join(f"`--method {method.name}`" for method in methods)


def check_search(located: LocatedModel, settings: LocalizeSettings) -> None:
    """Raise an error if this model cannot be searched with these settings."""
    for name in ("component", "noise"):
        if getattr(settings, name) is not None:
            raise RequestError(f"`--{name}` is for causal tracing", "add `--method causal-trace`")
    check_components(located)
    _check_window(settings)
    if settings.width != "auto":
        sliding_windows(located.spec.n_layers, settings.width)
    if settings.pooled and not located.spec.unreachable:
        raise RequestError(
            f"`{located.name}` has no pooled embedding to swap",
            "omit `--pooled`",
        )
    check_steps(settings.steps)


def _check_window(settings: LocalizeSettings) -> None:
    if settings.window != "set":
        return
    if settings.width != "auto":
        raise RequestError(
            f"`--width {settings.width}` is for ranges; the size of a set is found by the search",
            "omit `--width` or `--window set`",
        )
    if settings.search == "exhaustive":
        raise RequestError(
            "`--search exhaustive` tries every range, but there are too many sets to try",
            "omit `--search exhaustive` or `--window set`",
        )
