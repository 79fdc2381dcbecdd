"""Neurons in a checkpoint: which channels of each projection, and what holding them changes."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch
from torch import Tensor

from loco_cli.checkpoint.reader import read_tensor
from loco_cli.editing import neurons
from loco_cli.editing.contexts import Contexts
from loco_cli.editing.deltas import Change, Solved, edit_record
from loco_cli.editing.directions import find_directions
from loco_cli.editing.keys import Problem, edits_by_layer, encode_problem
from loco_cli.editing.preserve import chosen_neighbours, fully_padded_prompts, preserved_together
from loco_cli.editing.watched import DriftProbe
from loco_cli.encoders.encode import TextEncoder
from loco_cli.interventions import FixChannels
from loco_cli.models.encoders import finest
from loco_cli.models.locate import LocatedModel
from loco_cli.recipe import AUTO_NEURONS, Recipe


def solve(
    located: LocatedModel,
    recipe: Recipe,
    layers_of: Sequence[tuple[int, ...]],
    encoder: TextEncoder,
) -> Solved:
    """
    Return the solved edit of a recipe whose edits touch the given layers, one tuple for each edit.

    Edits are solved together in every layer that they share, each with channels of its own.
    """
    contexts, spec, edits_of = Contexts(located), located.spec, edits_by_layer(layers_of)
    chosen = chosen_neighbours(spec, recipe, encoder)
    kept_of = preserved_together(spec, recipe, chosen, edits_of.values())
    kept = tuple(dict.fromkeys(chain.from_iterable(kept_of.values())))
    problem = _encode(recipe, kept, encoder, contexts, fully_padded_prompts(recipe, chosen))
    problem_in = problem.by_layer(edits_of, kept_of)
    held = _held(problem, problem_in, edits_of, contexts)
    records = tuple(
        edit_record(
            entry,
            recipe,
            layers,
            ridge=held[layers[0]].ridge,
            tokens=recipe.edit.tokens,
            n_keys=len(problem_in[layers[0]].rows(i, contexts.of_layer(layers[0]))[0]),
            neurons=max(held[layer].n for layer in layers),
            residual=max(held[layer].residual for layer in layers),
        )
        for i, (entry, layers) in enumerate(zip(recipe.edits, layers_of, strict=True))
    )
    changes = tuple(change for layer in held.values() for change in layer.changes)
    return Solved(changes, records, chosen)


@dataclass(frozen=True)
class Ranked:
    """
    The strongest channels of one projection, as they are held at inference, and their z-scores.
    """

    layer: int
    fixed: FixChannels
    z: tuple[float, ...]


def rank(
    located: LocatedModel,
    recipe: Recipe,
    layers_of: Sequence[tuple[int, ...]],
    encoder: TextEncoder,
) -> tuple[tuple[Ranked, ...], ...]:
    """Return for each edit the channels that it would hold in its layers, strongest first."""
    contexts = Contexts(located)
    problem = _encode(recipe, (), encoder, contexts, fully_padded_prompts(recipe, ()))
    found = []
    for i, layers in enumerate(layers_of):
        own: list[Ranked] = []
        for layer in layers:
            aligned = problem.aligned(i, contexts.of_layer(layer))
            contrast = neurons.contrast_of(aligned, recipe.edit.position)
            own += _ranked(located, recipe, layer, contrast)
        found.append(tuple(own))
    return tuple(found)


def n_neurons(recipe: Recipe, d_out: int) -> int:
    """Return how many channels of a projection of `d_out` are held."""
    asked = recipe.edit.neurons
    return max(1, round(AUTO_NEURONS * d_out)) if asked == "auto" else asked


@dataclass(frozen=True)
class _Layer:
    """A layer solved: its changes, its ridge, how many channels, the largest residual."""

    changes: tuple[Change, ...]
    ridge: float
    n: int
    residual: float


def _ranked(
    located: LocatedModel, recipe: Recipe, layer: int, contrast: neurons.Contrast
) -> Iterator[Ranked]:
    spec = located.spec.layers[layer]
    slots = partial(located.checkpoint.slots, located.spec.network)
    for projection in spec.projections:
        path = f"{spec.module_path}.{projection.name}"
        weight = read_tensor(finest(slots(f"{path}.weight")))
        z, values = contrast.z_scores(weight), contrast.means(weight)
        if projection.has_bias:
            values = values + read_tensor(finest(slots(f"{path}.bias")))
        chosen = neurons.strongest(z, n_neurons(recipe, len(weight)))
        fixed = FixChannels(path, tuple(chosen.tolist()), tuple(values[chosen].tolist()))
        yield Ranked(layer, fixed, tuple(z[chosen].tolist()))


def _encode(
    recipe: Recipe,
    kept: Sequence[str],
    encoder: TextEncoder,
    contexts: Contexts,
    whole: Collection[str],
) -> Problem:
    # a norm over all tokens needs all of them, and so does a contrast at the last position
    padded = True if contexts.is_per_layer or recipe.edit.position == "last" else whole
    return encode_problem(recipe, kept, encoder, contexts.shared, padded=padded)


def _held(
    problem: Problem,
    problem_in: Mapping[int, Problem],
    edits_of: Mapping[int, tuple[int, ...]],
    contexts: Contexts,
) -> dict[int, _Layer]:
    """Return each layer that changes, solved; layers of the same edits share their directions."""
    found: dict[tuple[tuple[int, ...], int | None], tuple[Tensor, float]] = {}
    held: dict[int, _Layer] = {}
    for layer, edits in edits_of.items():
        own, read = problem_in[layer], contexts.of_layer(layer)
        keys = [own.rows(i, read)[0] for i in edits]
        key = (edits, layer if contexts.is_per_layer else None)
        if key not in found:
            ridge = problem.recipe.edit.fixed_ridge
            found[key] = find_directions(
                torch.cat(keys), *own.preserved_rows(read), ridge.value, relative=ridge.is_relative
            )
        contrasts = [
            neurons.contrast_of(problem.aligned(i, read), problem.recipe.edit.position)
            for i in edits
        ]
        watched = problem.watched(read)
        located, recipe = contexts.located, problem.recipe
        held[layer] = _solved(located, recipe, layer, contrasts, keys, watched, *found[key])
    return held


def _solved(
    located: LocatedModel,
    recipe: Recipe,
    layer: int,
    contrasts: Sequence[neurons.Contrast],
    keys: Sequence[Tensor],
    watched: DriftProbe,
    directions: Tensor,
    ridge: float,
) -> _Layer:
    changes, residuals, spec = [], [], located.spec
    for name in spec.layers[layer].tensor_names():
        weight = read_tensor(finest(located.checkpoint.slots(spec.network, name)))
        n = n_neurons(recipe, len(weight))
        held = neurons.hold(weight, contrasts, keys, directions, n)
        changes.append(Change(spec.network, name, held, watched))
        residuals.append(held.residual(weight))
    return _Layer(tuple(changes), ridge, n, max(residuals))
