"""LocoEdit in a checkpoint: keys and values of layers, solved once per set of edits."""

from collections.abc import Mapping, Sequence
from itertools import chain

from loco_cli.editing import locoedit
from loco_cli.editing.contexts import Contexts
from loco_cli.editing.deltas import Change, Solved, edit_record
from loco_cli.editing.keys import Problem, edits_by_layer, encode_prompts, problem_of
from loco_cli.editing.pooling import pooled_changes
from loco_cli.editing.preserve import chosen_neighbours, fully_padded_prompts, preserved_together
from loco_cli.encoders.encode import TextEncoder
from loco_cli.models.locate import LocatedModel
from loco_cli.recipe import Recipe


def solve(
    located: LocatedModel,
    recipe: Recipe,
    layers_of: Sequence[tuple[int, ...]],
    encoder: TextEncoder,
) -> Solved:
    """
    Return the solved edit of a recipe whose edits touch the given layers, one tuple for each edit.

    Edits are solved together in every layer that they share.
    """
    contexts, spec, edits_of = Contexts(located), located.spec, edits_by_layer(layers_of)
    chosen = chosen_neighbours(spec, recipe, encoder)
    kept_of = preserved_together(spec, recipe, chosen, edits_of.values())
    kept = tuple(dict.fromkeys(chain.from_iterable(kept_of.values())))
    # a norm over all tokens needs all of them, wherever they stand
    padded = True if contexts.is_per_layer else fully_padded_prompts(recipe, chosen)
    states = encode_prompts(recipe, kept, encoder, padded=padded)
    shared = {prompt: contexts.shared(one) for prompt, one in states.items()}
    problem = problem_of(recipe, kept, shared)
    problem_in = problem.by_layer(edits_of, kept_of)
    solution_of = _solutions(problem_in, edits_of, contexts)
    changes = tuple(
        Change(spec.network, name, solution, problem.watched(contexts.of_layer(layer)))
        for layer, solution in solution_of.items()
        for name in spec.layers[layer].tensor_names()
    )
    pooling = spec.context.pooling
    if recipe.edit.pooled and pooling:
        read, mean_bias = contexts.of_pooling(pooling)
        pooled = problem_of(recipe, kept, states)
        changes += pooled_changes(spec.network, pooling, pooled, read, mean_bias)
    records = tuple(
        edit_record(
            entry,
            recipe,
            layers,
            ridge=solution_of[layers[0]].ridge,
            tokens=recipe.edit.tokens,
            n_keys=len(problem_in[layers[0]].rows(i, contexts.of_layer(layers[0]))[0]),
            residual=_missing(problem_in, i, {one: solution_of[one] for one in layers}, contexts),
            pooled=recipe.edit.pooled or None,
        )
        for i, (entry, layers) in enumerate(zip(recipe.edits, layers_of, strict=True))
    )
    return Solved(changes, records, chosen)


def _missing(
    problem_in: Mapping[int, Problem],
    edit: int,
    solution_of: Mapping[int, locoedit.Solution],
    contexts: Contexts,
) -> float:
    """Return the largest share of an edit's own change that is missing in one of its layers."""
    different = {id(solution): layer for layer, solution in solution_of.items()}
    return max(
        solution_of[layer].missing(*problem_in[layer].rows(edit, contexts.of_layer(layer)))
        for layer in different.values()
    )


def _solutions(
    problem_in: Mapping[int, Problem], edits_of: Mapping[int, tuple[int, ...]], contexts: Contexts
) -> dict[int, locoedit.Solution]:
    """
    Return the solution of each layer that changes.

    Where all layers read alike, those of the same edits share a solution; else each has its own.
    """
    solutions: dict[tuple[tuple[int, ...], int | None], locoedit.Solution] = {}
    solution_of: dict[int, locoedit.Solution] = {}
    for layer, edits in edits_of.items():
        key = (edits, layer if contexts.is_per_layer else None)
        if key not in solutions:
            solutions[key] = problem_in[layer].solve(edits, contexts.of_layer(layer))
        solution_of[layer] = solutions[key]
    return solution_of
