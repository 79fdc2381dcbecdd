"""The prompts of a recipe, encoded, as a system to solve: what moves where, and what stays."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from loco_cli.concept import PromptPair
from loco_cli.editors import locoedit
from loco_cli.recipe import AUTO_RIDGES, Recipe, Ridge
from loco_cli.runtime.encode import EncodedPrompt, TextEncoder

Read = Callable[[Tensor], Tensor]  # states that all tensors are given -> what one of them reads


def as_it_is(states: Tensor) -> Tensor:
    """Return states as they are, where a tensor reads what all of them are given."""
    return states


@dataclass(frozen=True)
class Problem:
    """
    The prompts of a recipe, encoded: for each edit its pairs, and what is preserved.

    A tensor reads them by a function of its own, from states that are given to all of them.
    """

    recipe: Recipe
    pairs: tuple[tuple[locoedit.Aligned, ...], ...]
    preserved: tuple[Tensor, ...]  # [n_tokens, d] each

    @property
    def ridge(self) -> Ridge:
        """The price of moving, `auto` made a number."""
        settings = self.recipe.edit
        return AUTO_RIDGES[settings.method] if settings.ridge == "auto" else settings.ridge

    def solve(self, edits: Sequence[int], read: Read = as_it_is) -> locoedit.Solution:
        """Return the solution of some edits together, for tensors that read so."""
        rows = [self.rows(i, read) for i in edits]
        keys, targets = (torch.cat(parts) for parts in zip(*rows, strict=True))
        kept = torch.cat([keys[:0], *map(read, self.preserved)])
        ridge = self.ridge
        return locoedit.solve(keys, targets, kept, ridge.value, relative=ridge.is_relative)

    def rows(self, edit: int, read: Read = as_it_is) -> tuple[Tensor, Tensor]:  # [m, d] each
        """Return the keys of an edit that move, and what they should read as."""
        pairs = [
            replace(pair, source=read(pair.source), target=read(pair.target))
            for pair in self.pairs[edit]
        ]
        return locoedit.moving_rows(pairs, self.recipe.edit.tokens)


def encode_problem(
    recipe: Recipe,
    kept: Sequence[str],
    encoder: TextEncoder,
    shared: Callable[[EncodedPrompt], EncodedPrompt] = lambda prompt: prompt,
    *,
    padded: bool | Collection[str] = True,
) -> Problem:
    """
    Return all prompts of a recipe encoded in one pass.

    `shared` makes of a prompt what all tensors are given; those that are not `padded` stop at their
    end token.
    """
    pairs = [entry.edit_pairs() for entry in recipe.edits]
    prompts = [prompt for edit in pairs for pair in edit for prompt in (pair.source, pair.target)]
    encoded = encoder.encode([*prompts, *kept], padded=padded)
    states = {prompt: shared(one) for prompt, one in zip([*prompts, *kept], encoded, strict=True)}
    aligned = tuple(
        tuple(_aligned(pair, states[pair.source], states[pair.target]) for pair in edit)
        for edit in pairs
    )
    return Problem(recipe, aligned, tuple(states[prompt].states for prompt in kept))


def _aligned(pair: PromptPair, source: EncodedPrompt, target: EncodedPrompt) -> locoedit.Aligned:
    return locoedit.Aligned(
        source.states,
        target.states,
        source.positions_of(pair.subject),
        source.end,
        target.end,
        target.start,
    )
