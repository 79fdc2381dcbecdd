"""
The methods of localizing as modules of one form, and the checks that they share.

The module that a row of `LOCALIZE_METHODS` names has three functions:

    check   raise where a recipe cannot be localized as asked, before anything is loaded
    cost    return the pictures that it takes, at most
    run     return the results of a recipe, one for each edit, on what is loaded
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

Named = tuple[LayerSet, ...] | None  # layers for each edit, None where they are looked for

Cost = tuple[PlannedRuns | None, PlannedRuns | None]


class _Module(Protocol):
    """The module of a method."""

    def check(self, located: LocatedModel, recipe: Recipe, layers_of: Named = None) -> None:
        """Raise where the recipe cannot be localized as asked, or the model makes no pictures."""

    def cost(
        self,
        located: LocatedModel,
        recipe: Recipe,
        layers_of: Named = None,
        *,
        allows_sets: bool = False,
        batch_size: int | None = None,
    ) -> Cost:
        """
        Return the pictures that find the place of every concept, at most, and those made there.

        Either is None where no such pictures are made. With `allows_sets` a set is looked for where
        no range is enough. A trace takes less where its batch size is known.
        """

    def run(
        self,
        context: "SearchContext",
        recipe: Recipe,
        layers_of: Named = None,
        *,
        allows_sets: bool = False,
    ) -> tuple[Any, ...]:
        """Return a `LocalizationRun`, or of causal tracing a `TraceRun`, for each edit."""


def module_of(settings: LocalizeSettings) -> _Module:
    """Return the module of the method that the settings name."""
    return cast(_Module, import_module(LOCALIZE_METHODS[settings.method].module))


def layer_finder_of(settings: LocalizeSettings) -> _Module:
    """Return the module of a method that finds layers; raises RequestError for other methods."""
    finds = LOCALIZE_METHODS[settings.method].finds
    if finds == "states":
        raise RequestError(
            "causal tracing names states, and no layers that an edit could be made in",
            "use `--method locogen`, or name the layers with `--layers`",
        )
    if finds == "neurons":
        raise RequestError(
            "neurons are ranked in layers that are known, and find none",
            "use `--set localize.method=locogen`, or name the layers",
        )
    return module_of(settings)


def check_settings(settings: LocalizeSettings, layers_of: Named = None) -> None:
    """
    Raise RequestError for a setting that its method does not read.

    A setting counts where its value is not the default, wherever it was said.
    """
    method = LOCALIZE_METHODS[settings.method]
    for name, field in LocalizeSettings.model_fields.items():
        if name == "method" or getattr(settings, name) == field.default:
            continue
        if name not in method.settings:
            readers = _in_words(one for one in LOCALIZE_METHODS.values() if name in one.settings)
            if method.finds == "states":
                readers = "the methods that look for layers"
            raise _unread(f"`localize.{name}` is set", method, readers)
        if method.finds == "layers" and layers_of and name in ("search", "width", "window"):
            raise RequestError(
                f"`localize.{name}` is set, and the layers are named: none are looked for",
                "leave one of the two out",
            )


def with_named(
    located: LocatedModel, recipe: Recipe, layers: Sequence[int] | None, neurons: int | None
) -> tuple[Recipe, Named]:
    """
    Return the recipe and the layers of each edit, where a command names layers or neurons itself.

    A method that lists neurons takes from the recipe's edit what the command does not name. Raises
    RequestError where the method takes none, or the model has no such layers.
    """
    method = LOCALIZE_METHODS[recipe.localize.method]
    if layers is not None and not method.takes_layers:
        takers = _in_words(one for one in LOCALIZE_METHODS.values() if one.takes_layers)
        raise _unread("layers are named", method, takers)
    if neurons is not None and method.finds != "neurons":
        listers = _in_words(one for one in LOCALIZE_METHODS.values() if one.finds == "neurons")
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


def _unread(what: str, method: LocalizeMethod, readers: str) -> RequestError:
    return RequestError(
        f"{what}, which method `{method.name}` does not read", f"it is for {readers}"
    )


def _in_words(methods: Iterable[LocalizeMethod]) -> str:
    return " and ".join(f"`--method {method.name}`" for method in methods)


def check_search(located: LocatedModel, settings: LocalizeSettings) -> None:
    """Raise where layers cannot be looked for as asked, or the model makes no pictures."""
    for name in ("component", "noise"):
        if getattr(settings, name) is not None:
            raise RequestError(
                f"`--{name}` belongs to causal tracing", "add `--method causal-trace`"
            )
    check_components(located)
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
