"""
The channels of a projection that tell a concept, and their edit: the arithmetic of `neurons`.
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
    A state of each prompt with a concept, [n, d_text], and of each prompt without it.
    """

    concept: Tensor
    plain: Tensor

    @classmethod
    def of(cls, pairs: Sequence[AlignedPair], position: str) -> "Contrast":
        """Return the states that tell a concept from its plain prompts, of which one is too few."""
        if len(pairs) < 2:
            raise EditError(
                "one source prompt has no spread to rank neurons by", "give more under `source`"
            )
        concept, plain = [], []
        for pair in pairs:
            at = pair.subject[-1] if position == "last-subject" else len(pair.source) - 1
            concept.append(pair.source[at])
            plain.append(pair.target[pair.answer(at) if position == "last-subject" else -1])
        return cls(torch.stack(concept), torch.stack(plain))

    def z_scores(self, weight: Tensor) -> Tensor:  # [d_out, d_text] -> [d_out]
        """
        Return the z-score of every channel of a projection.

        It is 0 where nothing differs, large and finite where all does.
        """
        concept, plain = _answers(self.concept, weight), _answers(self.plain, weight)
        difference = concept.mean(0) - plain.mean(0)
        variances = [part.var(0, correction=0) / len(part) for part in (concept, plain)]
        error = (variances[0] + variances[1]).sqrt()
        least = torch.finfo(error.dtype).eps * difference.abs()  # of answers that never vary
        return (difference / torch.maximum(error, least)).nan_to_num(0.0)

    def means(self, weight: Tensor) -> Tensor:  # [d_out, d_text] -> [d_out]
        """Return every channel's mean over the plain prompts, any bias left out."""
        return _answers(self.plain, weight).mean(0)


@dataclass(frozen=True)
class NeuronEdit:
    """
    An edit of one projection: the chosen channels of each concept, solved together.

    `contrasts`, `chosen` and `keys` go by concept; `directions` are of all keys. A channel that
    only another concept's edit takes keeps its answers to the keys of this one.
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
        """Return the edit of the n strongest channels that a projection has for each concept."""
        chosen = tuple(top_channels(contrast.z_scores(weight), n) for contrast in contrasts)
        return cls(tuple(contrasts), chosen, tuple(keys), directions)

    @cached_property
    def triangle(self) -> Tensor:  # [m, m] or [d_text, m]
        """The triangular factor of the directions."""
        return torch.linalg.qr(self.directions.T)[1]

    def change(self, weight: Tensor) -> tuple[Tensor, Tensor]:  # [d_out, m], [m, d_text]
        """Return the change of the projection in two factors, float64; other rows are zero."""
        parts = zip(self.contrasts, self.chosen, self.keys, strict=True)
        return torch.cat([_gaps(weight, *part) for part in parts], dim=1), self.directions

    def residual(self, weight: Tensor) -> float:
        """Return the share of what the chosen channels lack that the change leaves missing."""
        lacking, _ = self.change(weight)
        made = lacking @ self.directions @ torch.cat(self.keys).double().T
        return float((made - lacking).norm() / lacking.norm())


def top_channels(z: Tensor, n: int) -> Tensor:  # [d_out] -> [n]
    """Return the n channels of largest |z|, strongest first, the first of equals."""
    if not 1 <= n <= len(z):
        raise EditError(f"{n} neurons are asked for, a projection has {len(z)}")
    return z.abs().argsort(descending=True, stable=True)[:n]


def _gaps(
    weight: Tensor, contrast: Contrast, chosen: Tensor, keys: Tensor
) -> Tensor:  # [d_out, m_c]
    """Return the distance of chosen channels from their plain mean at every key, else zero."""
    lacking = torch.zeros(len(weight), len(keys), dtype=torch.float64)
    lacking[chosen] = (contrast.means(weight)[:, None] - _answers(keys, weight).T)[chosen]
    return lacking


def _answers(states: Tensor, weight: Tensor) -> Tensor:  # [n, d_text] -> [n, d_out]
    return states.double() @ weight.double().T
