"""
A solved edit as changes of tensors, and the new weights that they make.

A method says of each tensor which one it is and what is to be added to it; reading, rounding,
counting ranks and measuring drift are the same for all of them.

A change comes in two factors. With `left = Q R` and `right^T = P S` it is `Q (R S^T) P^T`, so its
singular values are those of the small matrix `R S^T`: a rank is counted, and what is beyond it
dropped, without the product ever being formed. Shortened factors each take the square root of each
singular value, and that matters beyond their size: keys that are nearly parallel give factors whose
large parts cancel in the product, and a float32 of such a part has rounded off more than the
product holds.

The drift of a prompt is how far an edited tensor answers its words otherwise than before, of what
it answered: |ΔW x| / |W x| over the words, Frobenius; the drift of an edit is the mean over
tensors. Prompts to preserve are counted apart from unrelated ones.
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

# a copy of a tensor, its new weight in the slot's dtype, and how far that is from the base's
NewWeight = tuple[TensorSlot, Tensor, TensorEdit]
# half a unit in the last place of float32, which exported factors are rounded to: a part of the
# change that is smaller than that is not missed
_NEGLIGIBLE = 2.0**-25


class Update(Protocol):
    """
    The change of a weight, or of each of several that read alike.

    `directions` is its right factor, which all weights share. `triangle` stands for it where ranks
    are counted: the triangular factor of its transpose.
    """

    @property
    def directions(self) -> Tensor: ...  # [m, d_in]

    @property
    def triangle(self) -> Tensor: ...  # [*, m]

    def change(self, weight: Tensor) -> tuple[Tensor, Tensor]:  # [d_out, m], [m, d_in], float64
        """Return the change of a weight [d_out, d_in] in two factors."""
        ...


@dataclass(frozen=True)
class DriftProbe:
    """
    Prompts whose drift is measured, and what a tensor reads of them, [n_tokens, d_in] each.

    The first `n_preserved` are those that the edits of a recipe preserve, whichever tensors they
    are rows of the solve in; the others are unrelated.
    """

    prompts: tuple[str, ...] = ()
    rows: tuple[Tensor, ...] = ()
    n_preserved: int = 0

    def drifts(self, weight: Tensor, change: Tensor) -> tuple[float, ...]:  # [d_out, d_in] each
        """Return the drift of every prompt in a weight that changes so."""
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
        shares = (sums[0] / sums[1]).nan_to_num(0.0).sqrt()  # a prompt may hold no word
        return tuple(shares.tolist())

    def mean(self, by_tensor: Sequence[Sequence[float]]) -> Drift | None:
        """Return the drift of an edit from that of every prompt in each of its tensors."""
        if not self.prompts or not by_tensor:
            return None
        by_prompt = [fmean(drifts) for drifts in zip(*by_tensor, strict=True)]
        named = list(zip(self.prompts, by_prompt, strict=True))
        return Drift.of(named[: self.n_preserved], named[self.n_preserved :])


@dataclass(frozen=True)
class TensorChange:
    """
    One tensor that changes, in all of its copies: `TensorChange("unet", "...to_k.weight", update)`.

    `probe` measures its drift.
    """

    component: str
    name: str
    update: Update
    probe: DriftProbe = DriftProbe()


@dataclass(frozen=True)
class SolvedEdit:
    """
    An edit before it is written: what is added to each tensor, and what was solved.

    `records` has an entry for each edit of the recipe. An edit's record has the ridge of its first
    tensor.
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
    """Return the manifest's record of an edit; one of a text encoder has no layers."""
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


def iter_new_weights(located: LocatedModel, solved: SolvedEdit) -> Iterator[NewWeight]:
    """Yield every edited copy of every tensor, in the order of the changes."""
    for change in solved.changes:
        for slot in located.checkpoint.slots(change.component, change.name):
            weight, left, right = read_change(slot, change.update)
            wanted = left @ right  # [d_out, d_in], float64
            stored = (weight.double() + wanted).to(weight.dtype)
            made = stored.double() - weight.double()
            _, left_triangle = torch.linalg.qr(left)
            product = left_triangle @ change.update.triangle.T  # of the rank of the change
            yield (
                slot,
                stored,
                TensorEdit(
                    file=slot.file,
                    name=slot.tensor,
                    dtype=slot.dtype,
                    rank=int(torch.linalg.matrix_rank(product)),
                    relative_change=_share(made, weight.double()),
                    rounding_error=_share(made - wanted, wanted),
                    drifts=change.probe.drifts(weight, made),
                ),
            )


def read_change(
    slot: TensorSlot, update: Update
) -> tuple[Tensor, Tensor, Tensor]:  # [d_out, d_in], [d_out, m], [m, d_in]
    """Return a tensor as it is and its change in two factors; raises EditError."""
    weight = read_tensor(slot)
    d_in = update.directions.shape[1]
    if weight.shape[1] != d_in:
        raise EditError(
            f"`{slot.key}` reads {weight.shape[1]} numbers per token, "
            f"the text encoder writes {d_in}"
        )
    if not torch.isfinite(weight).all():
        raise EditError(f"`{slot.key}` of the base holds NaN or Inf")
    return weight, *update.change(weight)


def _share(part: Tensor, whole: Tensor) -> float:
    size = whole.norm()
    return (part.norm() / size).item() if size else 0.0


def shorten(
    left: Tensor,  # [d_out, m]
    right: Tensor,  # [m, d_in]
) -> tuple[Tensor, Tensor]:  # [d_out, r], [r, d_in], float64
    """
    Return the shortest two factors of the same product, where r is its numerical rank.

    They are orthogonal, and equal in norm. All that is left out together has less than 2^-25 of
    the product's Frobenius norm; r is 0 where the product is nothing.
    """
    q_left, r_left = torch.linalg.qr(left.double())
    q_right, r_right = torch.linalg.qr(right.double().T)
    u, sizes, vh = torch.linalg.svd(r_left @ r_right.T, full_matrices=False)
    rest = sizes.square().flip(0).cumsum(0).flip(0).sqrt()  # the norm of each value and those after
    rank = int((rest > _NEGLIGIBLE * rest[0]).sum())
    root = sizes[:rank].sqrt()
    return q_left @ (u[:, :rank] * root), (root[:, None] * vh[:rank]) @ q_right.T
