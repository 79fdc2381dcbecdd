"""What must hold before any model is loaded; each failure is a sentence."""

from collections.abc import Sequence
from pathlib import Path

from loco_cli.checkpoint.header import shown
from loco_cli.errors import RequestError
from loco_cli.layers import LayerWindow, sliding_windows
from loco_cli.recipe import LADDERS, LocalizeSettings, Recipe
from loco_cli.workflows.opening.locate import Located, check_parts
from loco_cli.workflows.solving.methods import check_method, is_in_layers
from loco_cli.workflows.writing.destinations import check_file
from loco_cli.workflows.writing.outputs import (
    EditOptions,
    OutputPaths,
    check_output,
    needed_bytes,
)

MAX_STEPS = 1000  # of noise that a Stable Diffusion was trained with
_LAYER_KEYS = ("edit.layer_range", "edit.layers")
_SEARCH_KEYS = ("localize.search", "localize.width", "localize.window", "localize.effect")
RESULT_FILES = ("sheet.png", "report.html")  # beside the document of `localize` and `evaluate`


def check_localize(located: Located, settings: LocalizeSettings) -> None:
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


def check_find_neurons(located: Located, recipe: Recipe) -> None:
    """Raise where the neurons of a recipe's concepts cannot be listed as asked."""
    _ = located.texts
    layers_of = named_layers(located, recipe)
    check_neurons(located, recipe, layers_of)
    # the layers are found by LocoGen where none are named
    check_localize(located, recipe.localize.model_copy(update={"method": "locogen"}))


def check_edit(located: Located, recipe: Recipe, options: EditOptions) -> None:
    """Raise where the edit cannot be made and written as asked."""
    is_copy = options.form == "checkpoint"
    if recipe.edit.hold == "inference":
        raise RequestError(
            "neurons are to be held at inference, and an edit is one of weights",
            "use `loco evaluate`, or `--set edit.hold=weights`",
        )
    check_solve(located, recipe)
    check_output(
        located.checkpoint,
        options.paths(located, recipe),
        needed_bytes=needed_bytes(located.checkpoint, 0) if is_copy else 0,
        force=options.force,
    )
    if options.save_recipe:
        _check_apart(options.save_recipe, options.paths(located, recipe))
        check_file(options.save_recipe, located.checkpoint, force=options.force, what="recipe")


def _check_apart(saved: Path, paths: OutputPaths) -> None:
    """Raise RequestError where a recipe is to be saved in the place of an output, or inside it."""
    place, root = saved.resolve(), paths.root.resolve()
    beside = () if paths.is_folder else (path.resolve() for path in paths.beside)
    if place == root or root in place.parents or place in beside:
        raise RequestError(
            f"the recipe to save, `{shown(saved)}`, lies in the output `{shown(paths.root)}`",
            f"choose another `--save-recipe`; the output has its recipe in `{paths.recipe.name}`",
        )


def check_solve(located: Located, recipe: Recipe) -> None:
    """Raise where the edit cannot be made as asked, wherever it goes."""
    _ = located.texts  # before layers are looked for, which can take hours
    check_method(located, recipe)
    _check_strength(located, recipe)
    layers_of = named_layers(located, recipe)
    if recipe.edit.method == "neurons":
        check_neurons(located, recipe, layers_of)
    elif recipe.edit.neurons != "auto":
        raise RequestError(
            f"method `{recipe.edit.method}` holds no neurons, and {recipe.edit.neurons} are asked "
            "for",
            "use `--method neurons`, or leave `--neurons` out",
        )
    if layers_of is None:
        check_localize(located, recipe.localize)


def _check_strength(located: Located, recipe: Recipe) -> None:
    """Raise where pictures cannot decide how strong an edit is, or its target is not read."""
    settings = recipe.edit
    if not settings.is_measured:
        if "edit.target" in recipe.overrides:
            raise RequestError(
                "`edit.target` is set, and the strength is fixed: no picture is held against it",
                "add `--set edit.strength=measured`, or leave it out",
            )
        return
    if settings.ridge != "auto":
        raise RequestError(
            f"`edit.strength: measured` chooses the ridge, and `{settings.ridge}` is asked for",
            "leave one of the two out",
        )
    if settings.method not in LADDERS:
        raise RequestError(
            f"method `{settings.method}` has no strength to measure: its neurons are held or not",
            "leave `edit.strength` out, or use `--method locoedit`",
        )
    check_parts(located)
    check_steps(recipe.localize.steps)


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


def scored_layers(located: Located, recipe: Recipe) -> tuple[tuple[int, ...], ...] | None:
    """
    Return the layers that LocoGen is to score for each edit, None where it is to look for them.

    Layers that a recipe's file names are those of its edit, which can be looked for all the same.
    """
    return _layers_named(located, recipe) if _are_layers_asked(recipe) else None


def _are_layers_asked(recipe: Recipe) -> bool:
    return (
        recipe.localize.method == "locogen"
        and recipe.edit.layer_range != "auto"
        and any(key in recipe.overrides for key in _LAYER_KEYS)
    )


def check_neurons(
    located: Located, recipe: Recipe, layers_of: Sequence[tuple[int, ...]] | None
) -> None:
    """
    Raise RequestError where neurons are asked for that no layer of an edit has.

    While the layers are still to be found, any of the model may be one of them.
    """
    asked = recipe.edit.neurons
    for entry in recipe.edits:
        if len(entry.edit_pairs()) < 2:
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


def named_layers(located: Located, recipe: Recipe) -> tuple[tuple[int, ...], ...] | None:
    """
    Return the layers that recipe or papers name for each edit, None where they must be found.

    A method that edits no layers has none for each.
    """
    if not is_in_layers(recipe):
        return ((),) * len(recipe.edits)
    return _layers_named(located, recipe)


def _layers_named(located: Located, recipe: Recipe) -> tuple[tuple[int, ...], ...] | None:
    named = recipe.edit.layer_range
    if named == "auto":
        return None
    if named == "published":
        return tuple(_published(located, entry.kind) for entry in recipe.edits)
    n_layers = located.spec.n_layers
    last = named.stop - 1 if isinstance(named, LayerWindow) else max(recipe.edit.layers or ())
    if last >= n_layers:
        raise RequestError(
            f"layer {last} does not exist: `{located.name}` has layers 0 to {n_layers - 1}"
        )
    return (recipe.edit.named_layers or (),) * len(recipe.edits)


def check_steps(steps: int | None) -> None:
    """Raise RequestError for more steps than there are."""
    if steps and steps > MAX_STEPS:
        raise RequestError(f"{steps} steps are asked for, a model has at most {MAX_STEPS}")


def _published(located: Located, kind: str) -> tuple[int, ...]:
    published = located.spec.published_ranges.get(kind)
    if published is None:
        raise RequestError(
            f"no published layers are known for a {kind} in `{located.spec.name}`",
            "use `layer_range: auto`, or name the layers",
        )
    return tuple(range(*published))
