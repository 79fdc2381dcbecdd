"""
A solved edit as changes of tensors, and the new weights that they make.

A method says of each tensor which one it is and what is to be added to it; reading, rounding and
counting are the same for all of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from loco_cli.checkpoint.reader import TensorSlot, read_tensor
from loco_cli.editing.factors import Update
from loco_cli.editing.preserve import Preserved
from loco_cli.editing.watched import DriftProbe
from loco_cli.errors import EditError
from loco_cli.layers import LayerSet
from loco_cli.manifest import EditRecord, TensorEdit
from loco_cli.models.locate import LocatedModel
from loco_cli.recipe import EditEntry, Recipe

# a copy of a tensor, its new weight in the slot's dtype, and how far that is from the base's
NewWeight = tuple[TensorSlot, Tensor, TensorEdit]


@dataclass(frozen=True)
class Change:
    """
    One tensor that changes, in all of its copies: `Change("unet", "...to_k.weight", update)`.

    `watched` is what it reads of prompts that are to stay as they are.
    """

    component: str
    name: str
    update: Update
    watched: DriftProbe | None = None


@dataclass(frozen=True)
class Solved:
    """
    An edit before it is written: what is added to each tensor, and what was solved.

    `records` has an entry for each edit of the recipe. An edit's record has the ridge of its first
    tensor.
    """

    changes: tuple[Change, ...]
    records: tuple[EditRecord, ...]
    preserved: tuple[Preserved, ...]
    seconds: float = 0.0


def edit_record(
    entry: EditEntry,
    recipe: Recipe,
    layers: tuple[int, ...],
    *,
    ridge: float | None,
    tokens: str | None,
    n_keys: int,
    neurons: int | None = None,
    residual: float | None = None,
    pooled: bool | None = None,
) -> EditRecord:
    """Return what a manifest says of an edit; one of a text encoder has no layers."""
    concept = entry.concept
    return EditRecord(
        kind=concept.kind,
        subject=concept.subject,
        to=concept.to,
        method=recipe.edit.method,
        **LayerSet(layers).to_keys(),
        ridge=ridge,
        tokens=tokens,
        n_keys=n_keys,
        neurons=neurons,
        residual=residual,
        pooled=pooled,
    )


def new_weights(located: LocatedModel, solved: Solved) -> tuple[NewWeight, ...]:
    """
    Return every edited copy of every tensor.

    Raises EditError where one is not finite, or none differs from what it was.
    """
    weights = tuple(iter_new_weights(located, solved))
    if not any(edit.relative_change for _, _, edit in weights):
        raise EditError(
            f"the edit changes nothing: all of its {len(weights)} tensors keep their values",
            "lower `--ridge`",
        )
    return weights


def iter_new_weights(located: LocatedModel, solved: Solved) -> Iterator[NewWeight]:
    """Yield every edited copy of every tensor, in the order of the changes."""
    for change in solved.changes:
        for slot in located.checkpoint.slots(change.component, change.name):
            yield _new_weight(slot, change)


def read_change(
    slot: TensorSlot, update: Update
) -> tuple[Tensor, Tensor, Tensor]:  # [d_out, d_in], [d_out, m], [m, d_in]
    """Return a tensor as it is and its change in two factors; raises EditError."""
    weight = read_tensor(slot)
    if weight.shape[1] != update.d_in:
        raise EditError(
            f"`{slot.key}` reads {weight.shape[1]} numbers per token, "
            f"the text encoder writes {update.d_in}"
        )
    if not torch.isfinite(weight).all():
        raise EditError(f"`{slot.key}` of the base holds NaN or Inf")
    return weight, *update.change(weight)


def _new_weight(slot: TensorSlot, change: Change) -> NewWeight:
    weight, left, right = read_change(slot, change.update)
    wanted = left @ right  # [d_out, d_in], float64
    stored = (weight.double() + wanted).to(weight.dtype)
    made = stored.double() - weight.double()
    edit = TensorEdit(
        file=slot.file,
        name=slot.tensor,
        dtype=slot.dtype,
        rank=_rank(left, change.update.triangle),
        relative_change=_share(made, weight.double()),
        rounding_error=_share(made - wanted, wanted),
        drifts=change.watched.drifts(weight, made) if change.watched else (),
    )
    return slot, stored, edit


def _share(part: Tensor, whole: Tensor) -> float:
    size = whole.norm()
    return (part.norm() / size).item() if size else 0.0


def _rank(left: Tensor, triangle: Tensor) -> int:
    """Return the rank of a change from its left factor and what stands for its right one."""
    _, own = torch.linalg.qr(left)
    return int(torch.linalg.matrix_rank(own @ triangle.T))
