"""
The channels of a projection that respond to a concept, and their edit: the maths of `neurons`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from loco_cli.editing.keys import AlignedPair
from loco_cli.errors import EditError


@dataclass(frozen=True)
class Contrast:
    """
    The states of prompts with a concept and of the same prompts without it, each [n, d_text].
    """

    concept: Tensor
    plain: Tensor

    @classmethod
    def of(cls, pairs: Sequence[AlignedPair], position: str) -> "Contrast":
        """
        Collect one state of each prompt of some pairs.

        Args:
            pairs: The prompt pairs. Two are the minimum, since a z-score needs a spread.
            position: `last-subject` for the subject's last token, `last` for the last token.

        Raises:
            EditError: There are fewer than two pairs.
        """
        if len(pairs) < 2:
            raise EditError(
                "cannot rank neurons with one source prompt: a z-score needs at least two",
                "add prompts under `source`",
            )
        concept, plain = [], []
        for pair in pairs:
            at = pair.subject[-1] if position == "last-subject" else len(pair.source) - 1
            concept.append(pair.source[at])
            target = pair.target_position(at) if position == "last-subject" else -1
            plain.append(pair.target[target])
        return cls(torch.stack(concept), torch.stack(plain))

    def z_scores(self, weight: Tensor) -> Tensor:  # [d_out, d_text] -> [d_out]
        """
        Return the z-score of every output channel of a projection.

        The score is 0 if the two groups are equal. It stays finite if neither group varies.
        """
        concept, plain = _outputs(self.concept, weight), _outputs(self.plain, weight)
        difference = concept.mean(0) - plain.mean(0)
        variances = [part.var(0, correction=0) / len(part) for part in (concept, plain)]
        error = (variances[0] + variances[1]).sqrt()
        # groups without spread would divide by zero
        min_error = torch.finfo(error.dtype).eps * difference.abs()
        return (difference / torch.maximum(error, min_error)).nan_to_num(0.0)

    def means(self, weight: Tensor) -> Tensor:  # [d_out, d_text] -> [d_out]
        """Return the mean of every output channel over the plain prompts, without the bias."""
        return _outputs(self.plain, weight).mean(0)


@dataclass(frozen=True)
class NeuronEdit:
    """
    An edit of one projection: the chosen channels of each concept, solved together.

    A channel moves only for the concepts that chose it. For the keys of all other concepts it keeps
    its outputs.

    Args:
        contrasts: The contrast of each concept.
        chosen: The channels that each concept edits.
        keys: The keys of each concept.
        directions: The rows B of `ridge`, for the keys of all concepts.
    """

    contrasts: tuple[Contrast, ...]
    chosen: tuple[Tensor, ...]  # [n] each
    keys: tuple[Tensor, ...]  # [m_c, d_text] each
    directions: Tensor  # [m, d_text]

    @classmethod
    def of(
        cls,
        weight: Tensor,  # [d_out, d_text]
        contrasts: Sequence[Contrast],
        keys: Sequence[Tensor],  # [m_c, d_text] each
        directions: Tensor,  # [m, d_text]
        n: int,
    ) -> "NeuronEdit":
        """Return the edit of the n channels with the largest z-scores for each concept."""
        chosen = tuple(top_channels(contrast.z_scores(weight), n) for contrast in contrasts)
        return cls(tuple(contrasts), chosen, tuple(keys), directions)

    @cached_property
    def triangle(self) -> Tensor:  # [m, m] or [d_text, m]
        """The triangular factor of the directions."""
        return torch.linalg.qr(self.directions.T)[1]

    def change(self, weight: Tensor) -> tuple[Tensor, Tensor]:  # [d_out, m], [m, d_text]
        """Return the change of the projection as two factors in float64; other rows are zero."""
        parts = zip(self.contrasts, self.chosen, self.keys, strict=True)
        return torch.cat([_gaps(weight, *part) for part in parts], dim=1), self.directions

    def residual(self, weight: Tensor) -> float:
        """Return the share of the required change that the chosen channels do not make."""
        gaps, _ = self.change(weight)
        closed = gaps @ self.directions @ torch.cat(self.keys).double().T
        return float((closed - gaps).norm() / gaps.norm())


def top_channels(z: Tensor, n: int) -> Tensor:  # [d_out] -> [n]
    """Return the n channels with the largest |z|, largest first; the lower index breaks ties."""
    if not 1 <= n <= len(z):
        raise EditError(f"cannot edit {n} neurons of a projection that has {len(z)}")
    return z.abs().argsort(descending=True, stable=True)[:n]


def _gaps(
    weight: Tensor, contrast: Contrast, chosen: Tensor, keys: Tensor
) -> Tensor:  # [d_out, m_c]
    """Return the gap of each chosen channel to its plain mean, for every key; other rows are 0."""
    gaps = torch.zeros(len(weight), len(keys), dtype=torch.float64)
    gaps[chosen] = (contrast.means(weight)[:, None] - _outputs(keys, weight).T)[chosen]
    return gaps


def _outputs(states: Tensor, weight: Tensor) -> Tensor:  # [n, d_text] -> [n, d_out]
    return states.double() @ weight.double().T
