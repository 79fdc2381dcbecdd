"""The settings that a recipe leaves open: the layers of each edit, and its strength."""

from collections.abc import Sequence
from dataclasses import replace

from loco_cli.editing.methods import check_edit, known_layers
from loco_cli.editing.model_edit import ModelEdit
from loco_cli.errors import RequestError
from loco_cli.events import SILENT_EVENTS, Events
from loco_cli.layers import LayerSet
from loco_cli.localization import Localization
from loco_cli.localizing.methods import layer_finder_of
from loco_cli.localizing.runs import SearchContext
from loco_cli.methods import EDIT_METHODS
from loco_cli.models.locate import LocatedModel, check_components, check_steps
from loco_cli.models.session import RunOptions
from loco_cli.plan import PlannedRuns
from loco_cli.recipe.record import EditSettings, Recipe

N_ADDED_LAYERS = 2  # layers per widening of a set, the same number as for a range


def plan_model_edit(located: LocatedModel, recipe: Recipe) -> ModelEdit:
    """
    Check a recipe against a model, and return its edit.

    The plan raises every error that depends on the weights, before the first picture is drawn.

    Args:
        located: The model to edit; its tensors are not loaded.
        recipe: The recipe of the edit.

    Returns:
        The edit with the layers that the recipe names, or with `layers_of=None` if the layers
        have to be searched for.

    Raises:
        RequestError: The settings contradict each other, the method, or the model.
        CheckpointError: The checkpoint lacks a component that the edit needs.
    """
    _ = located.encoder_model  # fail on missing encoders before a search of hours
    check_edit(located, recipe)
    _check_strength(located, recipe)
    layers_of = known_layers(located, recipe)
    if layers_of is None:
        layer_finder_of(recipe.localize).check(located, recipe)
    return ModelEdit(located, recipe, layers_of)


def cost_of_layers(edit: ModelEdit) -> PlannedRuns | None:
    """Return the upper limit of the layer search's cost, or None if the edit names its layers."""
    if edit.layers_of is not None:
        return None
    finder = layer_finder_of(edit.recipe.localize)
    return finder.cost(edit.located, edit.recipe, allows_sets=True)[0]


def choose_layers_and_strength(
    edit: ModelEdit, machine: RunOptions, events: Events = SILENT_EVENTS
) -> ModelEdit:
    """
    Search for the layers and measure the strength, where the edit leaves them open.

    Both steps share one loaded model. Layers are reported as soon as they are found.

    Args:
        edit: The planned edit. If it leaves nothing open, it is returned unchanged.
        machine: The device, the precision and the cache settings.
        events: The receiver of progress and of found layers.

    Returns:
        The edit with `layers_of`, and with its `localizations` and `strength` if they were
        determined here.

    Raises:
        MachineError: A picture contains NaN.
    """
    if edit.layers_of is not None and not edit.recipe.edit.is_measured:
        return edit
    context = SearchContext.load(edit.located, machine, events)
    if edit.layers_of is None:
        finder = layer_finder_of(edit.recipe.localize)
        runs = finder.run(context, edit.recipe, allows_sets=True)
        for one in runs:
            events.localized(one.localization)
        layers_of = tuple(one.localization.layer_set for one in runs)
        edit = replace(edit, layers_of=layers_of, localizations=runs)
    return _measure_strength(context, edit) if edit.recipe.edit.is_measured else edit


def _widen(layers: LayerSet, found: Localization, n_layers: int) -> LayerSet:
    """
    Return more layers, for an edit that falls short in `layers`.

    A range grows by one layer on each side, a set by the layers that the search ranked next.
    """
    if layers.range and found.window is None:
        return LayerSet.window(max(0, layers[0] - 1), min(n_layers, layers[-1] + 2))
    ranking = found.ranking or ()
    left = sorted(set(range(len(ranking))) - set(layers), key=lambda layer: -ranking[layer])
    return LayerSet((*layers, *left[:N_ADDED_LAYERS]))


def _measure_strength(context: SearchContext, edit: ModelEdit) -> ModelEdit:
    """Measure the strength of an edit on pictures; its layers may be widened on the way."""
    from loco_cli.evaluating import judge, strength

    n_layers, found = edit.located.spec.n_layers, edit.localizations
    assert edit.layers_of is not None

    def widen(layers_of: tuple[LayerSet, ...], short: Sequence[int]) -> tuple[LayerSet, ...]:
        return tuple(
            _widen(layers, found[i].localization, n_layers) if found and i in short else layers
            for i, layers in enumerate(layers_of)
        )

    judging = judge.EvaluationContext(
        context.located,
        context.pipeline,
        judge.Scorers(context.scorer, context.scorer),
        context.batch_size,
        context.events,
        stage="choosing the strength, pictures",
    )
    measured = strength.measure(judging, edit.recipe, edit.layers_of, widen)
    layers_of = measured.chosen_trial.layers if measured.chosen_trial else edit.layers_of
    return replace(edit, layers_of=layers_of, strength=measured)


def _check_strength(located: LocatedModel, recipe: Recipe) -> None:
    """Raise if the strength cannot be measured, or if a fixed strength ignores `edit.target`."""
    settings = recipe.edit
    if not settings.is_measured:
        if settings.target != EditSettings.model_fields["target"].default:
            raise RequestError(
                "`edit.target` is set, but the strength is fixed and ignores it",
                "add `--set edit.strength=measured`, or omit `edit.target`",
            )
        return
    if settings.ridge != "auto":
        raise RequestError(
            f"`edit.strength: measured` chooses the ridge, but `edit.ridge` is `{settings.ridge}`",
            "omit one of the two",
        )
    if not EDIT_METHODS[settings.method].ladder:
        raise RequestError(
            f"method `{settings.method}` has no strength to measure",
            "omit `edit.strength`, or use `--method locoedit`",
        )
    check_components(located)
    check_steps(recipe.localize.steps)
