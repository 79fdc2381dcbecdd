"""
Solved edits as changes of tensors, and the new weights that result.

A method names each tensor and the change to add. Reading, rounding, counting ranks and measuring
drift are the same for every method.

A change has two factors. With `left = Q R` and `right^T = P S`, the change is `Q (R S^T) P^T`. Its
singular values are those of the small matrix `R S^T`, so the rank follows without the full product.
Shortened factors each take the square root of the singular values, which also protects precision.
Nearly parallel keys give factors with large parts that cancel in the product. In float32, the
rounding error of such parts can exceed the product itself.

The drift of a prompt is the relative change of a tensor's outputs for its words: |ΔW x| / |W x|,
Frobenius norms over the words. The drift of an edit is the mean over its tensors. Preserved and
unrelated prompts are counted separately.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol

import torch
from torch import Tensor

from loco_cli.checkpoint.reader import TensorSlot, read_tensor
from loco_cli.editing.preserve import Preserved
from loco_cli.errors import EditError
from loco_cli.layers import LayerSet
from loco_cli.manifest import Drift, EditRecord, TensorEdit
from loco_cli.models.locate import LocatedModel
from loco_cli.recipe.record import EditEntry, Recipe

# one copy of a tensor, its new weight in the slot's dtype, and the record of its change
NewWeight = tuple[TensorSlot, Tensor, TensorEdit]
# share of the change's norm: exported factors are float32, and this is half a unit in its last
# place, so rounding hides a smaller part
_MAX_DROPPED_SHARE = 2.0**-25


class Update(Protocol):
    """
    The change of one weight, or of several weights with the same inputs.

    `directions` is the right factor, which all weights share. `triangle` is the triangular factor
    of its transpose; it replaces the right factor when ranks are counted.
    """

    @property
    def directions(self) -> Tensor: ...  # [m, d_in]

    @property
    def triangle(self) -> Tensor: ...  # [*, m]

    def change(self, weight: Tensor) -> tuple[Tensor, Tensor]:  # [d_out, m], [m, d_in], float64
        """Return the change of a weight [d_out, d_in] as two factors."""
        ...


@dataclass(frozen=True)
class DriftProbe:
    """
    Prompts for measuring drift, and the inputs that a tensor reads for them.

    Args:
        prompts: The preserved prompts of a recipe first, then unrelated ones.
        rows: The input of the tensor for the words of each prompt, [n_tokens, d_in].
        n_preserved: The number of preserved prompts.
    """

    prompts: tuple[str, ...] = ()
    rows: tuple[Tensor, ...] = ()
    n_preserved: int = 0

    def drifts(self, weight: Tensor, change: Tensor) -> tuple[float, ...]:  # [d_out, d_in] each
        """Return the drift of every prompt for a weight and its change."""
        if not self.rows:
            return ()
        lengths = torch.tensor([len(rows) for rows in self.rows])
        rows = torch.cat(self.rows).double()  # [n, d_in]
        before = (rows @ weight.double().T).square().sum(1)
        after = (rows @ change.double().T).square().sum(1)
        owner = torch.arange(len(lengths)).repeat_interleave(lengths)
        sums = torch.zeros(2, len(lengths), dtype=torch.float64)
        sums[0].index_add_(0, owner, after)
        sums[1].index_add_(0, owner, before)
        shares = (sums[0] / sums[1]).nan_to_num(0.0).sqrt()  # a prompt without words gives 0 / 0
        return tuple(shares.tolist())

    def mean(self, by_tensor: Sequence[Sequence[float]]) -> Drift | None:
        """Average the drift of each prompt over the tensors of an edit."""
        if not self.prompts or not by_tensor:
            return None
        by_prompt = [fmean(drifts) for drifts in zip(*by_tensor, strict=True)]
        named = list(zip(self.prompts, by_prompt, strict=True))
        return Drift.of(named[: self.n_preserved], named[self.n_preserved :])


@dataclass(frozen=True)
class TensorChange:
    """
    The change of one tensor and all its copies: `TensorChange("unet", "...to_k.weight", update)`.

    `probe` measures the drift that the change causes.
    """

    component: str
    name: str
    update: Update
    probe: DriftProbe = DriftProbe()


@dataclass(frozen=True)
class SolvedEdit:
    """
    A solved edit that is not yet written.

    Args:
        changes: The change of each tensor.
        records: One manifest entry for each edit of the recipe, with the ridge of its first tensor.
        preserved: The subjects and prompts that the edit preserves.
        seconds: The duration of the solve.
    """

    changes: tuple[TensorChange, ...]
    records: tuple[EditRecord, ...]
    preserved: tuple[Preserved, ...]
    seconds: float = 0.0


def edit_record(
    entry: EditEntry,
    recipe: Recipe,
    layers: tuple[int, ...],
    *,
    ridge: float,
    n_keys: int,
    neurons: int | None = None,
    residual: float | None = None,
    pooled: bool | None = None,
) -> EditRecord:
    """Return the manifest entry of an edit; an edit of a text encoder has no layers."""
    concept = entry.concept
    return EditRecord(
        kind=concept.kind,
        subject=concept.subject,
        to=concept.to,
        method=recipe.edit.method,
        **LayerSet(layers).to_keys(),
        ridge=ridge,
        tokens=recipe.edit.tokens,
        n_keys=n_keys,
        neurons=neurons,
        residual=residual,
        pooled=pooled,
    )


def new_weights(located: LocatedModel, solved: SolvedEdit) -> tuple[NewWeight, ...]:
    """
    Return the new weight of every copy of every tensor that changes.

    Args:
        located: The base model. Its files are read and not changed.
        solved: The edit.

    Returns:
        The slot, the new weight in the slot's dtype, and the record of each change.

    Raises:
        EditError: A new weight is not finite, or every weight is equal to its old one.
    """
    weights = tuple(iter_new_weights(located, solved))
    if not any(edit.relative_change for _, _, edit in weights):
        raise EditError(
            f"the edit changes nothing: all {len(weights)} tensors keep the same values",
            "lower `--ridge`",
        )
    return weights


def iter_new_weights(located: LocatedModel, solved: SolvedEdit) -> Iterator[NewWeight]:
    """Yield the new weight of every copy of every tensor, in the order of the changes."""
    for change in solved.changes:
        for slot in located.checkpoint.slots(change.component, change.name):
            weight, left, right = read_change(slot, change.update)
            solved_change = left @ right  # [d_out, d_in], float64
            stored = (weight.double() + solved_change).to(weight.dtype)
            stored_change = stored.double() - weight.double()
            _, left_triangle = torch.linalg.qr(left)
            product = left_triangle @ change.update.triangle.T  # its rank is that of the change
            yield (
                slot,
                stored,
                TensorEdit(
                    file=slot.file,
                    name=slot.tensor,
                    dtype=slot.dtype,
                    rank=int(torch.linalg.matrix_rank(product)),
                    relative_change=_share(stored_change, weight.double()),
                    rounding_error=_share(stored_change - solved_change, solved_change),
                    drifts=change.probe.drifts(weight, stored_change),
                ),
            )


def read_change(
    slot: TensorSlot, update: Update
) -> tuple[Tensor, Tensor, Tensor]:  # [d_out, d_in], [d_out, m], [m, d_in]
    """Return the present weight of a slot and its change as two factors; raises EditError."""
    weight = read_tensor(slot)
    d_in = update.directions.shape[1]
    if weight.shape[1] != d_in:
        raise EditError(
            f"`{slot.key}` expects {weight.shape[1]} features per token, "
            f"but the text encoder outputs {d_in}"
        )
    if not torch.isfinite(weight).all():
        raise EditError(f"`{slot.key}` of the base contains NaN or Inf")
    return weight, *update.change(weight)


def _share(part: Tensor, whole: Tensor) -> float:
    size = whole.norm()
    return (part.norm() / size).item() if size else 0.0


def shorten(
    left: Tensor,  # [d_out, m]
    right: Tensor,  # [m, d_in]
) -> tuple[Tensor, Tensor]:  # [d_out, r], [r, d_in], float64
    """
    Shorten two factors to the numerical rank r of their product.

    The columns of the left factor are orthogonal, the rows of the right one too, and both have the
    same norms. The dropped part has less than 2^-25 of the Frobenius norm of the product. A product
    of zero has r = 0.
    """
    q_left, r_left = torch.linalg.qr(left.double())
    q_right, r_right = torch.linalg.qr(right.double().T)
    u, sizes, vh = torch.linalg.svd(r_left @ r_right.T, full_matrices=False)
    rest = sizes.square().flip(0).cumsum(0).flip(0).sqrt()  # entry i is the norm of sizes[i:]
    rank = int((rest > _MAX_DROPPED_SHARE * rest[0]).sum())
    root = sizes[:rank].sqrt()
    return q_left @ (u[:, :rank] * root), (root[:, None] * vh[:rank]) @ q_right.T
