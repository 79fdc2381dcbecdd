"""
Prompts that begin alike, held once.

Where attention looks back alone, a token's state depends on the tokens up to it and on nothing
else. All prompts share their start token, and templates share much more than that: what they begin
with need run only once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Prefixes:
    """
    The distinct beginnings of some rows of tokens, one node for each, in the order they come up.

    `tokens` and `positions` [u] are the last token of each and where it stands. `paths` [n, t] are
    the nodes that a row passes, its last one repeated where other rows are longer; `homes` [u] are
    the places, counted through `paths`, where a node comes up first.
    """

    tokens: Tensor
    positions: Tensor
    paths: Tensor
    homes: Tensor


def prefixes_of(rows: Sequence[Sequence[int]]) -> Prefixes:
    """Return the beginnings of some rows of tokens, none of them empty."""
    n_tokens = max(map(len, rows))
    nodes: dict[tuple[int, int], int] = {}  # node of what comes before, token -> node
    tokens, positions, homes, paths = [], [], [], []
    for number, row in enumerate(rows):
        path: list[int] = []
        for position, token in enumerate(row):
            key = (path[-1] if path else -1, token)
            if key not in nodes:
                nodes[key] = len(nodes)
                tokens.append(token)
                positions.append(position)
                homes.append(number * n_tokens + position)
            path.append(nodes[key])
        paths.append([*path, *path[-1:] * (n_tokens - len(path))])
    return Prefixes(*map(torch.tensor, (tokens, positions, paths, homes)))
