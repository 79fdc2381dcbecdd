"""
Neurons: fix the key and value channels that respond to a concept at their means without it.

A neuron is one output channel of a layer's key or value projection. We compare prompts with the
concept and the same prompts without it, each by its state at one position. The z-score of a channel
is

    z = (mu_s - mu_p) / sqrt(s_s^2 / n_s + s_p^2 / n_p)

    symbol       code               meaning
    mu_s, s_s    `concept`          mean and standard deviation (population) over prompts with it
    mu_p, s_p    `plain`            the same over prompts without the concept
    n_s, n_p     their rows         numbers of prompts

The N channels with the largest |z| of each projection are set to mu_p. At inference this is exact
for every position of every prompt, on the conditional half of the batch (`FixChannels`). An edit of
weights approximates it by a ridge regression of each channel over the keys of the concept:

    min_w'  sum_i (w' k_i - mu_p)^2 + sum_j (w' p_j - w p_j)^2 + ridge |w' - w|^2

with the concept's keys k_i and the preserved keys p_j. The solution is `w' - w = (mu_p - w K^T) B`
with the B of `ridge`, so the change has N rows and a rank of at most N. One row cannot map every
key to the same number; the manifest reports the rest as `residual`. A bias does not change: mu_p
includes it, and w' k_i + bias should be mu_p, so it drops out. A row of zeros with mu_p as bias
would be exact, but it would also affect prompts without the concept, so we do not use it.

The paper uses the state of the subject's last token (`last-subject`). Its released code uses the
last position of the prompt, which is padding (`last`).

Basu et al. 2024, arXiv:2405.01008, the section on neurons.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from loco_cli.checkpoint.reader import read_tensor
from loco_cli.editing.methods import TensorKey, check_prompt_keys, layer_tensors
from loco_cli.editing.preserve import fully_padded_prompts, preserve_set, preserved_prompts
from loco_cli.errors import RequestError
from loco_cli.interventions import FixChannels
from loco_cli.layers import LayerSet
from loco_cli.models.locate import LocatedModel
from loco_cli.recipe.record import AUTO_NEURONS, Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from loco_cli.editing.contexts import Contexts
    from loco_cli.editing.contrast import Contrast
    from loco_cli.editing.deltas import DriftProbe, SolvedEdit, TensorChange
    from loco_cli.editing.keys import AlignedPair, Problem
    from loco_cli.encoders.encode import TextEncoder


def check(located: LocatedModel, recipe: Recipe, layers_of: Sequence[LayerSet] | None) -> None:
    """Raise RequestError if the method cannot edit neurons in the layers of the recipe."""
    check_prompt_keys(located, recipe)
    check_neurons(located, recipe, layers_of)


def check_neurons(
    located: LocatedModel, recipe: Recipe, layers_of: Sequence[LayerSet] | None
) -> None:
    """
    Check the number of neurons against the layers, and the number of prompts.

    Args:
        located: The model.
        recipe: The recipe with the number of neurons for each projection.
        layers_of: The layers of each edit. None checks every layer of the model.

    Raises:
        RequestError: A layer has fewer channels, or a concept has a single source prompt.
    """
    n_neurons = recipe.edit.neurons
    for entry in recipe.edits:
        if len(entry.edit_pairs) < 2:
            raise RequestError(
                f"ranking neurons needs at least two source prompts, but `{entry.subject}` has one",
                "add prompts under `source`",
            )
    spec, everywhere = located.spec, tuple(range(located.spec.n_layers))
    for layer in sorted({layer for layers in layers_of or (everywhere,) for layer in layers}):
        d_out = min(projection.d_out for projection in spec.layers[layer].projections)
        if n_neurons != "auto" and n_neurons > d_out:
            raise RequestError(
                f"cannot edit {n_neurons} neurons: layer {layer} of `{located.name}` has {d_out} "
                "in each projection",
                "lower `--neurons`, or name other layers",
            )


def tensors(
    located: LocatedModel, recipe: Recipe, layers_of: Sequence[LayerSet]
) -> tuple[TensorKey, ...]:
    """Return the key and value projections of the layers."""
    return layer_tensors(located, layers_of)


def solve(
    located: LocatedModel, recipe: Recipe, layers_of: Sequence[LayerSet], encoder: "TextEncoder"
) -> "SolvedEdit":
    """
    Solve a recipe, given the layers of each edit.

    Edits that share a layer are solved together in it; each edit chooses its own channels.
    """
    from loco_cli.editing.contexts import Contexts  # imports torch
    from loco_cli.editing.deltas import SolvedEdit, edit_record
    from loco_cli.editing.keys import edits_by_layer

    contexts, spec, edits_of = Contexts(located), located.spec, edits_by_layer(layers_of)
    preserved = preserve_set(spec, recipe, encoder)
    prompts_of = {
        edits: preserved_prompts(spec, recipe, preserved, edits)
        for edits in dict.fromkeys(edits_of.values())
    }
    prompts = tuple(dict.fromkeys(chain.from_iterable(prompts_of.values())))
    problem = _encode(recipe, prompts, encoder, contexts, fully_padded_prompts(recipe, preserved))
    problem_in = problem.by_layer(edits_of, prompts_of)
    solved_layers = _solve_layers(problem, problem_in, edits_of, contexts)
    records = tuple(
        edit_record(
            entry,
            recipe,
            layers,
            ridge=solved_layers[layers[0]].ridge,
            n_keys=len(problem_in[layers[0]].rows(i, contexts.of_layer(layers[0]))[0]),
            neurons=max(solved_layers[layer].n_neurons for layer in layers),
            residual=max(solved_layers[layer].residual for layer in layers),
        )
        for i, (entry, layers) in enumerate(zip(recipe.edits, layers_of, strict=True))
    )
    changes = tuple(change for layer in solved_layers.values() for change in layer.changes)
    return SolvedEdit(changes, records, preserved)


@dataclass(frozen=True)
class RankedNeurons:
    """
    The top channels of one projection, the values that inference sets them to, and their z-scores.
    """

    layer: int
    fixed: FixChannels
    z: tuple[float, ...]


def rank_neurons(
    located: LocatedModel, recipe: Recipe, layers_of: Sequence[LayerSet], encoder: "TextEncoder"
) -> tuple[tuple[RankedNeurons, ...], ...]:
    """
    Rank the channels of each edit in its layers.

    Args:
        located: The model.
        recipe: The recipe with the number of neurons and the position to compare.
        layers_of: The layers of each edit.
        encoder: The text encoder of the model.

    Returns:
        For each edit, one entry for each projection of its layers, largest |z| first.
    """
    from loco_cli.editing.contexts import Contexts

    contexts = Contexts(located)
    problem = _encode(recipe, (), encoder, contexts, fully_padded_prompts(recipe, ()))
    ranked: list[tuple[RankedNeurons, ...]] = []
    for i, layers in enumerate(layers_of):
        by_layer = (_ranked(contexts, recipe, layer, problem.pairs[i]) for layer in layers)
        ranked.append(tuple(chain.from_iterable(by_layer)))
    return tuple(ranked)


@dataclass(frozen=True)
class _SolvedLayer:
    """The solution of a layer: the changes, the ridge, the number of channels, the residual."""

    changes: "tuple[TensorChange, ...]"
    ridge: float
    n_neurons: int
    residual: float


def _solve_layers(
    problem: "Problem",
    problem_in: "Mapping[int, Problem]",
    edits_of: Mapping[int, tuple[int, ...]],
    contexts: "Contexts",
) -> dict[int, _SolvedLayer]:
    """
    Solve every layer that changes.

    Layers of the same edits share their directions, unless each layer has its own context.
    """
    import torch

    from loco_cli.editing.contrast import Contrast
    from loco_cli.editing.ridge import find_directions

    recipe = problem.recipe
    directions: dict[tuple[tuple[int, ...], int | None], tuple[Tensor, float]] = {}
    solved: dict[int, _SolvedLayer] = {}
    for layer, edits in edits_of.items():
        read = contexts.of_layer(layer)
        keys = [problem_in[layer].rows(i, read)[0] for i in edits]
        key = (edits, layer if contexts.is_per_layer else None)
        if key not in directions:
            rows = problem_in[layer].preserved_rows(read)
            directions[key] = find_directions(torch.cat(keys), *rows, recipe.edit.fixed_ridge)
        pairs_of = ([pair.read(read) for pair in problem.pairs[i]] for i in edits)
        contrasts = [Contrast.of(pairs, recipe.edit.position) for pairs in pairs_of]
        probe = problem.drift_probe(read)
        solved[layer] = _solve_layer(
            contexts, recipe, layer, contrasts, keys, probe, *directions[key]
        )
    return solved


def _solve_layer(
    contexts: "Contexts",
    recipe: Recipe,
    layer: int,
    contrasts: "Sequence[Contrast]",
    keys: "Sequence[Tensor]",
    probe: "DriftProbe",
    directions: "Tensor",
    ridge: float,
) -> _SolvedLayer:
    from loco_cli.editing.contrast import NeuronEdit
    from loco_cli.editing.deltas import TensorChange

    changes, residuals, spec = [], [], contexts.located.spec
    for name in spec.layers[layer].tensor_names():
        weight = read_tensor(contexts.reader.slot(name))
        n = _n_neurons(recipe, len(weight))
        neurons = NeuronEdit.of(weight, contrasts, keys, directions, n)
        changes.append(TensorChange(spec.network, name, neurons, probe))
        residuals.append(neurons.residual(weight))
    return _SolvedLayer(tuple(changes), ridge, n, max(residuals))


def _ranked(
    contexts: "Contexts", recipe: Recipe, layer: int, pairs: "Sequence[AlignedPair]"
) -> Iterator[RankedNeurons]:
    from loco_cli.editing.contrast import Contrast, top_channels

    spec, read = contexts.located.spec.layers[layer], contexts.of_layer(layer)
    contrast = Contrast.of([pair.read(read) for pair in pairs], recipe.edit.position)
    for projection in spec.projections:
        path = f"{spec.module_path}.{projection.name}"
        weight = read_tensor(contexts.reader.slot(f"{path}.weight"))
        z, values = contrast.z_scores(weight), contrast.means(weight)
        if projection.has_bias:
            values = values + read_tensor(contexts.reader.slot(f"{path}.bias"))
        chosen = top_channels(z, _n_neurons(recipe, len(weight)))
        fixed = FixChannels(path, tuple(chosen.tolist()), tuple(values[chosen].tolist()))
        yield RankedNeurons(layer, fixed, tuple(z[chosen].tolist()))


def _encode(
    recipe: Recipe,
    preserved: Sequence[str],
    encoder: "TextEncoder",
    contexts: "Contexts",
    padded: Collection[str],
) -> "Problem":
    from loco_cli.editing.keys import encode_problem

    # a norm over all tokens needs the padding of every prompt, and so does the last position
    all_padded = contexts.is_per_layer or recipe.edit.position == "last"
    encoded = encode_problem(recipe, preserved, encoder, padded=True if all_padded else padded)
    return encoded.mapped(contexts.shared) if contexts.located.spec.context.shared else encoded


def _n_neurons(recipe: Recipe, d_out: int) -> int:
    """Return the number of channels to edit in a projection with `d_out` channels."""
    n_neurons = recipe.edit.neurons
    return max(1, round(AUTO_NEURONS * d_out)) if n_neurons == "auto" else n_neurons
