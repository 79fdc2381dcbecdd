"""What a recipe leaves open: the layers of each edit, and how strong it has to be."""

from collections.abc import Sequence
from dataclasses import replace

from loco_cli.editing.methods import check_edit, known_layers
from loco_cli.editing.model_edit import ModelEdit
from loco_cli.errors import RequestError
from loco_cli.events import SILENT, Events
from loco_cli.layers import LayerSet
from loco_cli.localization import Localization
from loco_cli.localizing.methods import layer_finder_of
from loco_cli.localizing.runs import SearchContext
from loco_cli.methods import EDIT_METHODS
from loco_cli.models.locate import LocatedModel, check_components, check_steps
from loco_cli.models.session import RunOptions
from loco_cli.plan import PlannedRuns
from loco_cli.recipe.record import EditSettings, Recipe

N_MORE = 2  # layers that a set is widened by, as many as a range is


def plan_model_edit(located: LocatedModel, recipe: Recipe) -> ModelEdit:
    """
    Return a recipe's edit of a model, with the layers that it names.

    Raises what an edit of these weights would raise, wherever it goes, before its first picture.
    """
    _ = located.encoder_model  # before layers are looked for, which can take hours
    check_edit(located, recipe)
    _check_strength(located, recipe)
    layers_of = known_layers(located, recipe)
    if layers_of is None:
        layer_finder_of(recipe.localize).check(located, recipe)
    return ModelEdit(located, recipe, layers_of)


def cost_of_layers(edit: ModelEdit) -> PlannedRuns | None:
    """Return the pictures that find the layers of an edit, at most; None where it names them."""
    if edit.layers_of is not None:
        return None
    finder = layer_finder_of(edit.recipe.localize)
    return finder.cost(edit.located, edit.recipe, may_scatter=True)[0]


def choose(edit: ModelEdit, machine: RunOptions, events: Events = SILENT) -> ModelEdit:
    """
    Return an edit with the layers and the strength that it leaves open; one model loads for both.

    Layers are reported as soon as they are found.
    """
    if edit.layers_of is not None and not edit.recipe.edit.is_measured:
        return edit
    context = SearchContext.load(edit.located, machine, events)
    if edit.layers_of is None:
        finder = layer_finder_of(edit.recipe.localize)
        runs = finder.run(context, edit.recipe, may_scatter=True)
        for one in runs:
            events.localized(one.localization)
        layers_of = tuple(one.localization.layer_set for one in runs)
        edit = replace(edit, layers_of=layers_of, localizations=runs)
    return _measure_strength(context, edit) if edit.recipe.edit.is_measured else edit


def _widened(layers: LayerSet, found: Localization, n_layers: int) -> LayerSet:
    """
    Return the layers to try where no edit in these is enough.

    A range gets a layer at each side; a set the layers that the search ranked next.
    """
    if layers.range and found.window is None:
        return LayerSet.window(max(0, layers[0] - 1), min(n_layers, layers[-1] + 2))
    ranking = found.ranking or ()
    left = sorted(set(range(len(ranking))) - set(layers), key=lambda layer: -ranking[layer])
    return LayerSet((*layers, *left[:N_MORE]))


def _measure_strength(context: SearchContext, edit: ModelEdit) -> ModelEdit:
    """Return an edit whose strength, and so perhaps wider layers, are decided by pictures."""
    from loco_cli.evaluating import judge, strength

    n_layers, found = edit.located.spec.n_layers, edit.localizations
    assert edit.layers_of is not None

    def widen(layers_of: tuple[LayerSet, ...], short: Sequence[int]) -> tuple[LayerSet, ...]:
        return tuple(
            _widened(layers, found[i].localization, n_layers) if found and i in short else layers
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
    climbed = strength.measure(judging, edit.recipe, edit.layers_of, widen)
    layers_of = climbed.taken.layers if climbed.taken else edit.layers_of
    return replace(edit, layers_of=layers_of, strength=climbed)


def _check_strength(located: LocatedModel, recipe: Recipe) -> None:
    """Raise where pictures cannot decide how strong an edit is, or its target is not read."""
    settings = recipe.edit
    if not settings.is_measured:
        if settings.target != EditSettings.model_fields["target"].default:
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
    if not EDIT_METHODS[settings.method].ladder:
        raise RequestError(
            f"method `{settings.method}` has no strength to measure: its neurons are held or not",
            "leave `edit.strength` out, or use `--method locoedit`",
        )
    check_components(located)
    check_steps(recipe.localize.steps)
