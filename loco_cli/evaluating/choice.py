"""What a recipe leaves open: the layers of each edit, and how strong it has to be."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from loco_cli.editing.methods import check_method, named_layers
from loco_cli.errors import RequestError
from loco_cli.events import SILENT, Events
from loco_cli.layers import LayerSet
from loco_cli.localization import Localization, LocalizationRun
from loco_cli.localizing.checks import check_localize
from loco_cli.manifest import Strength
from loco_cli.methods import EDIT_METHODS
from loco_cli.models.locate import LocatedModel, check_parts, check_steps
from loco_cli.models.session import RunOptions
from loco_cli.recipe import Recipe

if TYPE_CHECKING:
    from loco_cli.localizing.runs import SearchContext

N_MORE = 2  # layers that a set is widened by, as many as a range is


@dataclass(frozen=True)
class Choice:
    """
    An edit with nothing left open: its layers, and a recipe whose ridge is the one that was chosen.

    `sweeps` found the layers, none where they were named; `strength` is None where no pictures had
    to decide.
    """

    recipe: Recipe
    layers_of: tuple[LayerSet, ...]
    sweeps: tuple[LocalizationRun, ...] = ()
    strength: Strength | None = None


def choose(
    located: LocatedModel,
    recipe: Recipe,
    machine: RunOptions,
    events: Events = SILENT,
) -> Choice:
    """
    Return a recipe's layers and strength, with what had to be made to find them; one model loads.

    Layers are told as soon as they are found.
    """
    named = named_layers(located, recipe)
    if named is not None and not recipe.edit.is_measured:
        return Choice(recipe, named)
    from loco_cli.localizing import sweep  # diffusers lives behind this line
    from loco_cli.localizing.runs import SearchContext

    if named is None:
        sweep.check(located, recipe)
    bench = SearchContext.load(located, machine, events)
    sweeps = () if named else sweep.run_on(bench, recipe, may_scatter=True)
    for one in sweeps:
        events.localized(one.localization)
    found = tuple(one.localization for one in sweeps)
    layers_of = named or tuple(one.layer_set for one in found)
    choice = Choice(recipe, layers_of, sweeps)
    return measured(bench, choice, found) if recipe.edit.is_measured else choice


def widened(layers: LayerSet, found: Localization, n_layers: int) -> LayerSet:
    """
    Return the layers to try where no edit in these is enough.

    A range gets a layer at each side; a set the layers that the search ranked next.
    """
    if layers.range and found.window is None:
        return LayerSet.window(max(0, layers[0] - 1), min(n_layers, layers[-1] + 2))
    ranking = found.ranking or ()
    left = sorted(set(range(len(ranking))) - set(layers), key=lambda layer: -ranking[layer])
    return LayerSet((*layers, *left[:N_MORE]))


def measured(bench: "SearchContext", choice: Choice, found: Sequence[Localization]) -> Choice:
    """
    Return a choice whose strength is decided by pictures.

    `found` are the localizations of the edits, by which layers are widened; none where the layers
    were named.
    """
    from loco_cli.evaluating import judge, strength

    n_layers = bench.located.spec.n_layers

    def widen(layers_of: tuple[LayerSet, ...], short: Sequence[int]) -> tuple[LayerSet, ...]:
        return tuple(
            widened(layers, found[i], n_layers) if found and i in short else layers
            for i, layers in enumerate(layers_of)
        )

    judges = judge.Scorers(bench.scorer, bench.scorer)
    judging = judge.EvaluationContext(
        bench.located,
        bench.pipeline,
        judges,
        bench.batch_size,
        bench.events,
        stage="choosing the strength, pictures",
    )
    climbed = strength.measure(judging, choice.recipe, choice.layers_of, widen)
    taken = climbed.taken
    if taken is None:
        return replace(choice, strength=climbed)
    recipe = strength.with_ridge(choice.recipe, taken.ridge)
    return Choice(recipe, taken.layers, choice.sweeps, climbed)


def check_solve(located: LocatedModel, recipe: Recipe) -> None:
    """Raise where the edit cannot be made as asked, wherever it goes."""
    _ = located.texts  # before layers are looked for, which can take hours
    check_method(located, recipe)
    _check_strength(located, recipe)
    if named_layers(located, recipe) is None:
        check_localize(located, recipe.localize)


def _check_strength(located: LocatedModel, recipe: Recipe) -> None:
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
    if not EDIT_METHODS[settings.method].ladder:
        raise RequestError(
            f"method `{settings.method}` has no strength to measure: its neurons are held or not",
            "leave `edit.strength` out, or use `--method locoedit`",
        )
    check_parts(located)
    check_steps(recipe.localize.steps)
