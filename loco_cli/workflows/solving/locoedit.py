"""LocoEdit in a checkpoint: keys and values of layers, solved once per set of edits."""

from collections.abc import Mapping, Sequence

from loco_cli.editors import locoedit
from loco_cli.recipe import Recipe
from loco_cli.runtime.encode import TextEncoder
from loco_cli.workflows.opening.locate import Located
from loco_cli.workflows.prompts.preserve import chosen_neighbours, preserved_prompts, whole_prompts
from loco_cli.workflows.solving.changes import Change, Solved, edit_record
from loco_cli.workflows.solving.contexts import Contexts
from loco_cli.workflows.solving.pooling import pooled_changes
from loco_cli.workflows.solving.problem import Problem, encode_prompts, problem_of


def solve(
    located: Located, recipe: Recipe, layers_of: Sequence[tuple[int, ...]], encoder: TextEncoder
) -> Solved:
    """
    Return the solved edit of a recipe whose edits touch the given layers, one tuple for each edit.

    Edits are solved together in every layer that they share.
    """
    contexts = Contexts(located)
    chosen = chosen_neighbours(located.spec, recipe, encoder)
    kept = preserved_prompts(located.spec, recipe, chosen)
    # a norm over all tokens needs all of them, wherever they stand
    padded = True if contexts.norm else whole_prompts(recipe, chosen)
    states = encode_prompts(recipe, kept, encoder, padded=padded)
    shared = {prompt: contexts.shared(one) for prompt, one in states.items()}
    problem = problem_of(recipe, kept, shared)
    solution_of = _solutions(problem, layers_of, contexts)
    changes = tuple(
        Change("unet", name, solution, problem.watched(contexts.of_layer(layer)))
        for layer, solution in solution_of.items()
        for name in located.spec.layers[layer].tensor_names()
    )
    pooling = located.spec.context.pooling
    if recipe.edit.pooled and pooling:
        read, mean_bias = contexts.of_pooling(pooling)
        changes += pooled_changes(pooling, problem_of(recipe, kept, states), read, mean_bias)
    records = tuple(
        edit_record(
            entry,
            recipe,
            layers,
            ridge=solution_of[layers[0]].ridge,
            tokens=recipe.edit.tokens,
            n_keys=len(problem.rows(i, contexts.of_layer(layers[0]))[0]),
            residual=_missing(problem, i, {one: solution_of[one] for one in layers}, contexts),
            pooled=recipe.edit.pooled or None,
        )
        for i, (entry, layers) in enumerate(zip(recipe.edits, layers_of, strict=True))
    )
    return Solved(changes, records, chosen)


def _missing(
    problem: Problem, edit: int, solution_of: Mapping[int, locoedit.Solution], contexts: Contexts
) -> float:
    """Return the largest share of an edit's own change that is missing in one of its layers."""
    different = {id(solution): layer for layer, solution in solution_of.items()}
    return max(
        solution_of[layer].missing(*problem.rows(edit, contexts.of_layer(layer)))
        for layer in different.values()
    )


def _solutions(
    problem: Problem, layers_of: Sequence[tuple[int, ...]], contexts: Contexts
) -> dict[int, locoedit.Solution]:
    """
    Return the solution of each layer that changes.

    Where all layers read alike, those of the same edits share a solution; else each has its own.
    """
    solutions: dict[tuple[tuple[int, ...], int | None], locoedit.Solution] = {}
    solution_of: dict[int, locoedit.Solution] = {}
    for layer in sorted({layer for layers in layers_of for layer in layers}):
        edits = tuple(i for i, layers in enumerate(layers_of) if layer in layers)
        key = (edits, layer if contexts.norm else None)
        if key not in solutions:
            solutions[key] = problem.solve(edits, contexts.of_layer(layer))
        solution_of[layer] = solutions[key]
    return solution_of
