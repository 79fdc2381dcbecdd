"""
What pools a prompt past the layers, as a system to solve.

DeepFloyd's `add_embedding` sums up the states of T5 for every block of the UNet: their mean, a
token of its own, attends to all of them. Its queries, keys and values are linear maps as those of a
layer are, of tokens and mean, and are sent where the target prompt's go in the same closed form.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from loco_cli.editing import locoedit
from loco_cli.editing.deltas import Change
from loco_cli.editing.keys import Problem
from loco_cli.families.spec import Pooling

Read = Callable[[Tensor], Tensor]  # [n_tokens, d_states] -> the same, normed


def pooled_changes(
    network: str, pooling: Pooling, problem: Problem, read: Read, mean_bias: Tensor
) -> tuple[Change, ...]:
    """Return the changes of a pooling's maps, as `solve_pooled` solves for them."""
    solution, watched = solve_pooled(problem, read, mean_bias), problem.watched(read)
    return tuple(Change(network, name, solution, watched) for name in pooling.tensor_names())


def solve_pooled(problem: Problem, read: Read, mean_bias: Tensor) -> locoedit.Solution:
    """
    Return the solution of all edits together for the maps of a pooling.

    `read` norms a prompt's states as the encoders give them; `mean_bias` [1, d_states] is added to
    their mean. The mean of every source prompt moves, whichever of its tokens do; that of every
    preserved prompt stays.
    """

    def mean(states: Tensor) -> Tensor:  # [1, d_states]
        return read(states).mean(0, keepdim=True) + mean_bias

    rows = [problem.rows(edit, read) for edit in range(len(problem.pairs))]
    pairs = [pair for edit in problem.pairs for pair in edit]
    keys = torch.cat([*(own for own, _ in rows), *(mean(pair.source) for pair in pairs)])
    targets = torch.cat([*(own for _, own in rows), *(mean(pair.target) for pair in pairs)])
    preserved, fixed = problem.preserved_rows(read)
    means = torch.cat([keys[:0], *map(mean, problem.preserved)])
    if fixed is None:
        preserved = torch.cat([preserved, means])
    else:
        fixed = torch.cat([fixed, means])
    ridge = problem.recipe.edit.fixed_ridge
    return locoedit.solve(
        keys, targets, preserved, ridge.value, relative=ridge.is_relative, fixed=fixed
    )
