"""
LocoEdit: rewrite the keys and values of some layers, so that one prompt acts as another.

The keys are the text embeddings x_i of the source prompts. Their new values are W t_i, the present
outputs for the target prompts. The weight follows in the closed form of `ridge`. The setting
`tokens` selects the positions of a prompt, see `keys`.

    symbol    code                   meaning
    x_i       `Problem.rows`         embeddings of source prompts, which move
    t_i       `Problem.rows`         embeddings of target prompts at the matching positions
    p_j       `preserved_rows`       embeddings of preserved prompts, at every position
    lambda    `fixed_ridge`          the penalty on a change of the weight

Preserved prompts are keys that should keep their values. In the ridge form they are rows of the
same system. In the null-space form the change is orthogonal to their words, and only their padding
is in the system.

With `pooled`, the edit also covers DeepFloyd's `add_embedding`, which pools the states of T5 for
every block of the UNet. There the mean of the states is a token of its own that attends to all
states. The queries, keys and values are linear maps like those of a layer, so the same closed form
applies to them.

Basu et al. 2024, arXiv:2405.01008, section 4.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from loco_cli.editing.methods import TensorKey, check_prompt_keys, layer_tensors
from loco_cli.editing.preserve import fully_padded_prompts, preserve_set, preserved_prompts
from loco_cli.errors import RequestError
from loco_cli.families.spec import Pooling
from loco_cli.layers import LayerSet
from loco_cli.models.locate import LocatedModel
from loco_cli.recipe.record import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from loco_cli.editing.contexts import Contexts
    from loco_cli.editing.deltas import SolvedEdit, TensorChange
    from loco_cli.editing.keys import Problem, Read
    from loco_cli.editing.ridge import Solution
    from loco_cli.encoders.encode import TextEncoder


def check(located: LocatedModel, recipe: Recipe, layers_of: Sequence[LayerSet] | None) -> None:
    """Raise RequestError if the recipe edits a pooling that the model does not have."""
    if recipe.edit.pooled and located.spec.context.pooling is None:
        raise RequestError(
            f"the UNet of `{located.name}` has no weights that pool the prompt",
            "omit `edit.pooled`",
        )
    check_prompt_keys(located, recipe)


def tensors(
    located: LocatedModel, recipe: Recipe, layers_of: Sequence[LayerSet]
) -> tuple[TensorKey, ...]:
    """Return the key and value projections of the layers, and the maps of an edited pooling."""
    network, pooling = located.spec.network, located.spec.context.pooling
    pooled = pooling.tensor_names() if pooling and recipe.edit.pooled else ()
    return (*layer_tensors(located, layers_of), *((network, name) for name in pooled))


def solve(
    located: LocatedModel, recipe: Recipe, layers_of: Sequence[LayerSet], encoder: "TextEncoder"
) -> "SolvedEdit":
    """
    Solve a recipe, given the layers of each edit.

    Edits that share a layer are solved together in it.
    """
    from loco_cli.editing.contexts import Contexts  # imports torch
    from loco_cli.editing.deltas import SolvedEdit, TensorChange, edit_record
    from loco_cli.editing.keys import edits_by_layer, encode_problem

    contexts, spec, edits_of = Contexts(located), located.spec, edits_by_layer(layers_of)
    preserved = preserve_set(spec, recipe, encoder)
    prompts_of = {
        edits: preserved_prompts(spec, recipe, preserved, edits)
        for edits in dict.fromkeys(edits_of.values())
    }
    prompts = tuple(dict.fromkeys(chain.from_iterable(prompts_of.values())))
    # a norm over all tokens needs the padding of every prompt
    padded = True if contexts.is_per_layer else fully_padded_prompts(recipe, preserved)
    encoded = encode_problem(recipe, prompts, encoder, padded=padded)
    problem = encoded.mapped(contexts.shared) if spec.context.shared else encoded
    problem_in = problem.by_layer(edits_of, prompts_of)
    solution_of = _solutions(problem_in, edits_of, contexts)
    changes = tuple(
        TensorChange(spec.network, name, solution, problem.drift_probe(contexts.of_layer(layer)))
        for layer, solution in solution_of.items()
        for name in spec.layers[layer].tensor_names()
    )
    records = tuple(
        edit_record(
            entry,
            recipe,
            layers,
            ridge=solution_of[layers[0]].ridge,
            n_keys=len(problem_in[layers[0]].rows(i, contexts.of_layer(layers[0]))[0]),
            residual=_residual(
                problem_in, i, {layer: solution_of[layer] for layer in layers}, contexts
            ),
            pooled=recipe.edit.pooled or None,
        )
        for i, (entry, layers) in enumerate(zip(recipe.edits, layers_of, strict=True))
    )
    if recipe.edit.pooled and spec.context.pooling:
        changes += _pooled_changes(encoded, contexts, spec.context.pooling)
    return SolvedEdit(changes, records, preserved)


def _residual(
    problem_in: "Mapping[int, Problem]",
    edit: int,
    solution_of: "Mapping[int, Solution]",
    contexts: "Contexts",
) -> float:
    """Return the largest residual of an edit over its layers."""
    different = {id(solution): layer for layer, solution in solution_of.items()}
    return max(
        solution_of[layer].residual(*problem_in[layer].rows(edit, contexts.of_layer(layer)))
        for layer in different.values()
    )


def _solutions(
    problem_in: "Mapping[int, Problem]",
    edits_of: Mapping[int, tuple[int, ...]],
    contexts: "Contexts",
) -> "dict[int, Solution]":
    """
    Return the solution of each layer that changes.

    Layers of the same edits share one solution, unless each layer has its own context.
    """
    solutions: dict[tuple[tuple[int, ...], int | None], Solution] = {}
    solution_of: dict[int, Solution] = {}
    for layer, edits in edits_of.items():
        key = (edits, layer if contexts.is_per_layer else None)
        if key not in solutions:
            solutions[key] = problem_in[layer].solve(edits, contexts.of_layer(layer))
        solution_of[layer] = solutions[key]
    return solution_of


def _pooled_changes(
    problem: "Problem", contexts: "Contexts", pooling: Pooling
) -> "tuple[TensorChange, ...]":
    """Solve for the maps of a pooling and return their changes."""
    from loco_cli.editing.deltas import TensorChange

    read, mean_bias = contexts.of_pooling(pooling)
    solution, probe = _solve_pooled(problem, read, mean_bias), problem.drift_probe(read)
    network = contexts.located.spec.network
    return tuple(TensorChange(network, name, solution, probe) for name in pooling.tensor_names())


def _solve_pooled(problem: "Problem", read: "Read", mean_bias: "Tensor") -> "Solution":
    """
    Solve all edits together for the maps of a pooling.

    The mean of every source prompt moves, and the mean of every preserved prompt stays. That does
    not depend on `tokens`.

    Args:
        problem: The prompts with the states of the text encoder.
        read: The norm that the pooling applies to these states.
        mean_bias: The bias of the mean token, [1, d_states].
    """
    import torch

    from loco_cli.editing.ridge import solve_keys

    def mean(states: "Tensor") -> "Tensor":  # [1, d_states]
        return read(states).mean(0, keepdim=True) + mean_bias

    rows = [problem.rows(edit, read) for edit in range(len(problem.pairs))]
    pairs = [pair for edit in problem.pairs for pair in edit]
    keys = torch.cat([*(moving for moving, _ in rows), *(mean(pair.source) for pair in pairs)])
    targets = torch.cat([*(answers for _, answers in rows), *(mean(pair.target) for pair in pairs)])
    preserved, fixed = problem.preserved_rows(read)
    means = torch.cat([keys[:0], *(mean(prompt.states) for prompt in problem.preserved.values())])
    if fixed is None:
        preserved = torch.cat([preserved, means])
    else:
        fixed = torch.cat([fixed, means])
    return solve_keys(keys, targets, preserved, fixed, problem.recipe.edit.fixed_ridge)
