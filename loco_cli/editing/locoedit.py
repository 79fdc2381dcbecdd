"""
LocoEdit: rewrite keys and values of the located layers, so that one prompt reads as another.

For every prompt pair the text embeddings of the source prompt are keys, and the weight's own
answer to the target prompt's embeddings is what they should get: values W t_i, in the closed form
of `ridge`. Which positions of the prompt take part is `tokens`, in `keys`.

    symbol    here                   what
    x_i       `Problem.rows`         embeddings of source prompts, which move
    t_i       `Problem.rows`         embeddings of target prompts that answer to them
    p_j       `preserved_rows`       embeddings of prompts to preserve, at every position
    lambda    `fixed_ridge`          the price of moving

Prompts to preserve are keys that must keep their values, in the same system; or their words are
kept exactly, the change being orthogonal to them, and their padding in the system.

With `pooled`, what sums up a prompt past the layers is rewritten as well. DeepFloyd's
`add_embedding` pools the states of T5 for every block of the UNet: their mean, a token of its own,
attends to all of them. Its queries, keys and values are linear maps as those of a layer are, of
tokens and mean, and are sent where the target prompt's go in the same closed form.

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
    """Raise RequestError where nothing pools a prompt that is to be edited."""
    if recipe.edit.pooled and located.spec.context.pooling is None:
        raise RequestError(
            f"`{located.name}` pools no prompt by weights of its UNet",
            "leave `edit.pooled` out",
        )
    check_prompt_keys(located, recipe)


def tensors(
    located: LocatedModel, recipe: Recipe, layers_of: Sequence[LayerSet]
) -> tuple[TensorKey, ...]:
    """Return keys and values of the layers, and the maps of a pooling that is to be edited."""
    network, pooling = located.spec.network, located.spec.context.pooling
    pooled = pooling.tensor_names() if pooling and recipe.edit.pooled else ()
    return (*layer_tensors(located, layers_of), *((network, name) for name in pooled))


def solve(
    located: LocatedModel, recipe: Recipe, layers_of: Sequence[LayerSet], encoder: "TextEncoder"
) -> "SolvedEdit":
    """
    Return the solved edit of a recipe whose edits touch the given layers, one set for each edit.

    Edits are solved together in every layer that they share.
    """
    from loco_cli.editing.contexts import Contexts  # torch lives behind this line
    from loco_cli.editing.deltas import SolvedEdit, TensorChange, edit_record
    from loco_cli.editing.keys import edits_by_layer, encode_problem

    contexts, spec, edits_of = Contexts(located), located.spec, edits_by_layer(layers_of)
    preserved = preserve_set(spec, recipe, encoder)
    prompts_of = {
        edits: preserved_prompts(spec, recipe, preserved, edits)
        for edits in dict.fromkeys(edits_of.values())
    }
    prompts = tuple(dict.fromkeys(chain.from_iterable(prompts_of.values())))
    # a norm over all tokens needs all of them, wherever they stand
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
            residual=_missing(
                problem_in, i, {layer: solution_of[layer] for layer in layers}, contexts
            ),
            pooled=recipe.edit.pooled or None,
        )
        for i, (entry, layers) in enumerate(zip(recipe.edits, layers_of, strict=True))
    )
    if recipe.edit.pooled and spec.context.pooling:
        changes += _pooled_changes(encoded, contexts, spec.context.pooling)
    return SolvedEdit(changes, records, preserved)


def _missing(
    problem_in: "Mapping[int, Problem]",
    edit: int,
    solution_of: "Mapping[int, Solution]",
    contexts: "Contexts",
) -> float:
    """Return the largest share of an edit's own change that is missing in one of its layers."""
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

    Where all layers read alike, those of the same edits share a solution; else each has its own.
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
    """Return the changes of the pooling's maps."""
    from loco_cli.editing.deltas import TensorChange

    read, mean_bias = contexts.of_pooling(pooling)
    solution, probe = _solve_pooled(problem, read, mean_bias), problem.drift_probe(read)
    network = contexts.located.spec.network
    return tuple(TensorChange(network, name, solution, probe) for name in pooling.tensor_names())


def _solve_pooled(problem: "Problem", read: "Read", mean_bias: "Tensor") -> "Solution":
    """
    Return the solution of all edits together for the maps of a pooling.

    `read` norms a prompt's states as the encoders give them; `mean_bias` [1, d_states] is added to
    their mean. The mean of every source prompt moves, whichever of its tokens do; that of every
    preserved prompt stays.
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
