"""
Neurons: channels of keys and values that answer a concept unlike its plain prompts, held at those.

A neuron is one output channel of a layer's key or value projection. Over prompts with the concept
and the same prompts without it, each by its state at one position, a channel's answers differ by

    z = (mu_s - mu_p) / sqrt(s_s^2 / n_s + s_p^2 / n_p)

    symbol       argument           what
    mu_s, s_s    concept            mean and population deviation over prompts with the concept
    mu_p, s_p    plain              the same over prompts without it
    n_s, n_p     their rows         how many prompts there are

and the N channels of largest |z| of each projection are set to mu_p. At inference that is exact:
every position of the prompt, whatever it says, on the conditional half (`FixChannels`). As an edit
of weights it is the nearest row for the keys of the concept, a ridge regression of each channel:

    min_w'  sum_i (w' k_i - mu_p)^2 + sum_j (w' p_j - w p_j)^2 + ridge |w' - w|^2

with k_i the concept's keys and p_j those to preserve. Its answer is `(mu_p - w K^T) B` with the B
of `ridge`, so that the change has N rows and at most as many ranks, and what is missed is told as
`residual`: one row cannot answer every key with one number. A bias stays where it is: mu_p holds
it, w' k_i + bias has to be mu_p, and it drops out. A row of zeros with the bias at mu_p would be
exact, and for all prompts alike, also those that have nothing of the concept; it is not done.

Position: the paper names the subject's last token, its released code reads the prompt's last
position, which is padding; here `last-subject` and `last`.

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
    """Raise RequestError where neurons cannot be held in the layers of an edit."""
    check_prompt_keys(located, recipe)
    check_neurons(located, recipe, layers_of)


def check_neurons(
    located: LocatedModel, recipe: Recipe, layers_of: Sequence[LayerSet] | None
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


def tensors(
    located: LocatedModel, recipe: Recipe, layers_of: Sequence[LayerSet]
) -> tuple[TensorKey, ...]:
    """Return keys and values of the layers."""
    return layer_tensors(located, layers_of)


def solve(
    located: LocatedModel, recipe: Recipe, layers_of: Sequence[LayerSet], encoder: "TextEncoder"
) -> "SolvedEdit":
    """
    Return the solved edit of a recipe whose edits touch the given layers, one set for each edit.

    Edits are solved together in every layer that they share, each with channels of its own.
    """
    from loco_cli.editing.contexts import Contexts  # torch lives behind this line
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
    The strongest channels of one projection, as they are held at inference, and their z-scores.
    """

    layer: int
    fixed: FixChannels
    z: tuple[float, ...]


def rank_neurons(
    located: LocatedModel, recipe: Recipe, layers_of: Sequence[LayerSet], encoder: "TextEncoder"
) -> tuple[tuple[RankedNeurons, ...], ...]:
    """Return for each edit the channels that it would hold in its layers, strongest first."""
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
    """A layer solved: its changes, its ridge, how many channels, the largest residual."""

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
    """Return each layer that changes, solved; layers of the same edits share their directions."""
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
        held = NeuronEdit.of(weight, contrasts, keys, directions, n)
        changes.append(TensorChange(spec.network, name, held, probe))
        residuals.append(held.residual(weight))
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

    # a norm over all tokens needs all of them, and so does a contrast at the last position
    all_padded = contexts.is_per_layer or recipe.edit.position == "last"
    encoded = encode_problem(recipe, preserved, encoder, padded=True if all_padded else padded)
    return encoded.mapped(contexts.shared) if contexts.located.spec.context.shared else encoded


def _n_neurons(recipe: Recipe, d_out: int) -> int:
    """Return how many channels of a projection of `d_out` are held."""
    asked = recipe.edit.neurons
    return max(1, round(AUTO_NEURONS * d_out)) if asked == "auto" else asked
