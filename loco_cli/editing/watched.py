"""
What an edit does to prompts that it is not about, known before a picture is made.

The drift of a prompt is how far an edited tensor answers its words otherwise than before, of what
it answered: |ΔW x| / |W x| over the words, Frobenius; the drift of an edit is the mean over
tensors. Prompts of the preserve set are told apart from unrelated ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from loco_cli.manifest import Drift


@dataclass(frozen=True)
class DriftProbe:
    """
    What a tensor reads of some prompts, [n_tokens, d_in] each; those to preserve come first.

    They are those of all edits of a recipe, in whichever tensors they are rows of the solve.
    """

    prompts: tuple[str, ...]
    rows: tuple[Tensor, ...]
    n_preserved: int

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


def mean_drift(watched: DriftProbe, by_tensor: Sequence[Sequence[float]]) -> Drift | None:
    """Return an edit's drift from that of every prompt in each of its tensors."""
    if not watched.prompts or not by_tensor:
        return None
    of_prompt = [fmean(shares) for shares in zip(*by_tensor, strict=True)]
    named = list(zip(watched.prompts, of_prompt, strict=True))
    kept, others = named[: watched.n_preserved], named[watched.n_preserved :]
    return Drift.of(kept, others)
