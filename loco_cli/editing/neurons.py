"""
Neurons: channels of keys and values that answer a concept unlike its plain prompts, held at those.

A neuron is one output channel of a layer's key or value projection. Over prompts with the concept
and the same prompts without it, each by its state at one position, a channel's answers differ by

    z = (mu_s - mu_p) / sqrt(s_s^2 / n_s + s_p^2 / n_p)

    symbol       argument           what
    mu_s, s_s    concept            mean and population deviation over prompts with the concept
    mu_p, s_p    plain              the same over prompts without it
    n_s, n_p     their rows         how many prompts there are

and the N channels of largest |z| of each projection are set to mu_p. At inference that is exact:
every position of the prompt, whatever it says, on the conditional half (`FixChannels`). As an edit
of weights it is the nearest row for the keys of the concept, a ridge regression of each channel:

    min_w'  sum_i (w' k_i - mu_p)^2 + sum_j (w' p_j - w p_j)^2 + ridge |w' - w|^2

with k_i the concept's keys and p_j those to preserve. Its answer is `(mu_p - w K^T) B` with the B
of `ridge`, so that the change has N rows and at most as many ranks, and what is missed is told as
`residual`: one row cannot answer every key with one number. A bias stays where it is: mu_p holds
it, w' k_i + bias has to be mu_p, and it drops out. A row of zeros with the bias at mu_p would be
exact, and for all prompts alike, also those that have nothing of the concept; it is not done.

Position: the paper names the subject's last token, its released code reads the prompt's last
position, which is padding; here `last-subject` and `last`.

Basu et al. 2024, arXiv:2405.01008, the section on neurons.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from loco_cli.editing.locoedit import Aligned, answering
from loco_cli.errors import EditError

Position = Literal["last-subject", "last"]


@dataclass(frozen=True)
class Contrast:
    """
    What one concept is told from: a state of each prompt with it, [n, d_text], and without it.
    """

    concept: Tensor
    plain: Tensor

    def z_scores(self, weight: Tensor) -> Tensor:  # [d_out, d_text] -> [d_out]
        """Return the z-score of every channel of a projection."""
        return z_scores(_answers(self.concept, weight), _answers(self.plain, weight))

    def means(self, weight: Tensor) -> Tensor:  # [d_out, d_text] -> [d_out]
        """Return every channel's mean over the plain prompts, any bias left out."""
        return _answers(self.plain, weight).mean(0)


@dataclass(frozen=True)
class Held:
    """
    An edit of one projection: the chosen channels of each concept, solved together.

    `contrasts`, `chosen` and `keys` go by concept; `directions` are of all keys. A channel that
    only another concept's edit takes keeps its answers to the keys of this one.
    """

    contrasts: tuple[Contrast, ...]
    chosen: tuple[Tensor, ...]  # [n] each
    keys: tuple[Tensor, ...]  # [m_c, d_text] each
    directions: Tensor  # [m, d_text]

    @property
    def d_in(self) -> int:
        """How many numbers the projection reads."""
        return int(self.directions.shape[1])

    @cached_property
    def triangle(self) -> Tensor:  # [m, m] or [d_text, m]
        """The triangular factor of the directions."""
        return torch.linalg.qr(self.directions.T)[1]

    def change(self, weight: Tensor) -> tuple[Tensor, Tensor]:  # [d_out, m], [m, d_text]
        """Return the change of the projection in two factors, float64; other rows are zero."""
        parts = zip(self.contrasts, self.chosen, self.keys, strict=True)
        return torch.cat([_lacking(weight, *part) for part in parts], dim=1), self.directions

    def residual(self, weight: Tensor) -> float:
        """Return the share of what the chosen channels lack that the change leaves missing."""
        lacking, _ = self.change(weight)
        made = lacking @ self.directions @ torch.cat(self.keys).double().T
        return float((made - lacking).norm() / lacking.norm())


def hold(
    weight: Tensor,  # [d_out, d_text]
    contrasts: Sequence[Contrast],
    keys: Sequence[Tensor],  # [m_c, d_text] each
    directions: Tensor,  # [m, d_text]
    n: int,
) -> Held:
    """Return the edit of the n strongest channels that a projection has for each concept."""
    chosen = tuple(strongest(contrast.z_scores(weight), n) for contrast in contrasts)
    return Held(tuple(contrasts), chosen, tuple(keys), directions)


def contrast_of(pairs: Sequence[Aligned], position: Position) -> Contrast:
    """
    Return the states that tell a concept from its plain prompts; raises EditError for one prompt.
    """
    if len(pairs) < 2:
        raise EditError(
            "one source prompt has no spread to rank neurons by", "give more under `source`"
        )
    concept, plain = [], []
    for pair in pairs:
        at = pair.subject[-1] if position == "last-subject" else len(pair.source) - 1
        concept.append(pair.source[at])
        plain.append(pair.target[answering(pair, at) if position == "last-subject" else -1])
    return Contrast(torch.stack(concept), torch.stack(plain))


def z_scores(
    concept: Tensor,  # [n_s, d_out]
    plain: Tensor,  # [n_p, d_out]
) -> Tensor:  # [d_out]
    """
    Return the z-score of every channel; 0 where nothing differs, large and finite where all does.
    """
    difference = concept.mean(0) - plain.mean(0)
    variances = [part.var(0, correction=0) / len(part) for part in (concept, plain)]
    error = (variances[0] + variances[1]).sqrt()
    least = torch.finfo(error.dtype).eps * difference.abs()  # of answers that never vary
    return (difference / torch.maximum(error, least)).nan_to_num(0.0)


def strongest(z: Tensor, n: int) -> Tensor:  # [d_out] -> [n]
    """Return the n channels of largest |z|, strongest first, the first of equals."""
    if not 1 <= n <= len(z):
        raise EditError(f"{n} neurons are asked for, a projection has {len(z)}")
    return z.abs().argsort(descending=True, stable=True)[:n]


def _lacking(
    weight: Tensor, contrast: Contrast, chosen: Tensor, keys: Tensor
) -> Tensor:  # [d_out, m_c]
    """Return what chosen channels lack of their plain mean at every key, zero for the others."""
    lacking = torch.zeros(len(weight), len(keys), dtype=torch.float64)
    lacking[chosen] = (contrast.means(weight)[:, None] - _answers(keys, weight).T)[chosen]
    return lacking


def _answers(states: Tensor, weight: Tensor) -> Tensor:  # [n, d_text] -> [n, d_out]
    return states.double() @ weight.double().T
