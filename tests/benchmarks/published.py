"""
Published closed forms, implemented from their formulas for comparison.

All of them are one d x d system per weight, written as it stands in the papers:

    W' = (W (a T^T K + b P^T P) + c W) (a K^T K + b P^T P + c I)^-1

    symbol   what                            LocoEdit    TIME    UCE
    K, T     rows of sources and targets     last token  all     last token
    P        rows of what is preserved       none        none    the last token of every name
    a, b, c  their weights, and the ridge    1, 0, 0.01  1, 0, 0.1   1, 1, 0.5
    layers                                   localized   all     all

LocoEdit as released: Basu et al. 2024, arXiv:2405.01008. TIME: Orgad et al. 2023,
arXiv:2303.08084. UCE: Gandikota et al. 2024, arXiv:2308.14761, with the weights of its script of
2025; its paper reads all tokens from the subject on. The wordings of the prompts are ours for all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from loco_cli.editing.deltas import SolvedEdit, TensorChange
from loco_cli.editing.keys import AlignedPair, encode_problem
from loco_cli.editing.preserve import preserve_set
from loco_cli.encoders.encode import TextEncoder
from loco_cli.models.locate import LocatedModel
from loco_cli.recipe.record import Recipe


@dataclass(frozen=True)
class Formula:
    """A published closed form: `Formula("last", edit=1, keep=0, ridge=0.01)`."""

    tokens: Literal["last", "all"]
    edit: float
    keep: float
    ridge: float


LOCOEDIT = Formula("last", edit=1, keep=0, ridge=0.01)
TIME = Formula("all", edit=1, keep=0, ridge=0.1)
UCE = Formula("last", edit=1, keep=1, ridge=0.5)


@dataclass(frozen=True)
class Published:
    """The change of a published form: keys and targets [m, d], preserved rows [p, d]."""

    formula: Formula
    keys: Tensor
    targets: Tensor
    preserved: Tensor

    @property
    def directions(self) -> Tensor:
        """The change is not in factors: what stands for the right one is the identity."""
        return torch.eye(self.keys.shape[1], dtype=torch.float64)

    @property
    def triangle(self) -> Tensor:
        """The triangular factor of an identity is one."""
        return self.directions

    def change(self, weight: Tensor) -> tuple[Tensor, Tensor]:  # [d_out, d], [d, d]
        """Return the factors of the change of a weight, of which the second is the identity."""
        old = weight.double()
        keys, targets = self.keys.double(), self.targets.double()
        kept = self.formula.keep * self.preserved.double().T @ self.preserved.double()
        ridge = self.formula.ridge * self.directions
        left = old @ (self.formula.edit * targets.T @ keys + kept + ridge)
        right = self.formula.edit * keys.T @ keys + kept + ridge
        return torch.linalg.solve(right, left, left=False) - old, self.directions


def solve(
    formula: Formula,
    located: LocatedModel,
    recipe: Recipe,
    layers_of: Sequence[tuple[int, ...]],
    encoder: TextEncoder,
) -> SolvedEdit:
    """Return the edits of a recipe in a published form, solved together in layers they share."""
    names = [name for _, name in preserve_set(located.spec, recipe, encoder)]
    encoded = encoder.encode(names) if formula.keep else []
    last = [one.states[one.end - 1] for one in encoded]
    pairs = encode_problem(recipe, (), encoder).pairs
    nothing = pairs[0][0].source[:0]
    kept = torch.stack(last) if last else nothing
    changes = []
    for layer in sorted({layer for layers in layers_of for layer in layers}):
        own = [edit for edit, layers in zip(pairs, layers_of, strict=True) if layer in layers]
        rows = [_rows(pair, formula) for edit in own for pair in edit]
        keys, targets = (torch.cat(parts) for parts in zip(*rows, strict=True))
        update = Published(formula, keys, targets, kept)
        names_of = located.spec.layers[layer].tensor_names()
        changes += [TensorChange("unet", name, update) for name in names_of]
    return SolvedEdit(tuple(changes), (), ())


def _rows(pair: AlignedPair, formula: Formula) -> tuple[Tensor, Tensor]:  # [m, d] each
    last = pair.subject[-1]
    positions = range(last, last + 1) if formula.tokens == "last" else range(len(pair.source))
    answers = [pair.target_position(position) for position in positions]
    return pair.source[list(positions)], pair.target[answers]
