"""The prompts of a recipe, encoded, as a system to solve: what moves where, and what stays."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from loco_cli.concept import PromptPair
from loco_cli.editing import locoedit
from loco_cli.editing.neighbours import edited_names
from loco_cli.editing.watched import DriftProbe
from loco_cli.encoders.encode import EncodedPrompt, TextEncoder
from loco_cli.protocol.everyday import drift_prompts
from loco_cli.recipe import Recipe

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
    preserved_ends: tuple[int, ...]  # where their words end
    preserved_prompts: tuple[str, ...]
    unrelated: tuple[EncodedPrompt, ...] = ()

    def solve(self, edits: Sequence[int], read: Read = as_it_is) -> locoedit.Solution:
        """Return the solution of some edits together, for tensors that read so."""
        rows = [self.rows(i, read) for i in edits]
        keys, targets = (torch.cat(parts) for parts in zip(*rows, strict=True))
        kept, fixed = self.preserved_rows(read)
        ridge = self.recipe.edit.fixed_ridge
        relative = ridge.is_relative
        return locoedit.solve(keys, targets, kept, ridge.value, relative=relative, fixed=fixed)

    def preserved_rows(
        self, read: Read = as_it_is
    ) -> tuple[Tensor, Tensor | None]:  # [p, d], [f, d]
        """
        Return the keys that are rows of the ridge system, and those that are kept exactly.

        In the null-space form that is all up to the end of a prompt's words; the padding behind
        it, which would fill every direction, stays in the system.
        """
        states = [read(one) for one in self.preserved]
        nothing = read(self.pairs[0][0].source)[:0]
        if self.recipe.edit.preserve_form == "ridge":
            return torch.cat([nothing, *states]), None
        prompts = list(zip(states, self.preserved_ends, strict=True))
        padding = [one[end + 1 :] for one, end in prompts]
        return torch.cat([nothing, *padding]), torch.cat([one[: end + 1] for one, end in prompts])

    def by_layer(
        self,
        edits_of: Mapping[int, tuple[int, ...]],
        kept_of: Mapping[tuple[int, ...], Collection[str]],
    ) -> dict[int, "Problem"]:
        """Return the problem of each layer: with what the edits that share it preserve."""
        own = {edits: self._keeping(prompts) for edits, prompts in kept_of.items()}
        return {layer: own[edits] for layer, edits in edits_of.items()}

    def _keeping(self, prompts: Collection[str]) -> "Problem":
        left = [i for i, prompt in enumerate(self.preserved_prompts) if prompt in prompts]
        return replace(
            self,
            preserved=tuple(self.preserved[i] for i in left),
            preserved_ends=tuple(self.preserved_ends[i] for i in left),
            preserved_prompts=tuple(self.preserved_prompts[i] for i in left),
        )

    def watched(self, read: Read = as_it_is) -> DriftProbe:
        """Return what a tensor reads of the words of prompts that are to stay as they are."""
        start = self.pairs[0][0].start
        kept = zip(self.preserved, self.preserved_ends, strict=True)
        others = ((one.states, one.end) for one in self.unrelated)
        return DriftProbe(
            (*self.preserved_prompts, *(one.text for one in self.unrelated)),
            tuple(read(states)[start:end] for states, end in (*kept, *others)),
            len(self.preserved),
        )

    def aligned(self, edit: int, read: Read = as_it_is) -> list[locoedit.Aligned]:
        """Return the pairs of an edit as a tensor reads them."""
        return [
            replace(pair, source=read(pair.source), target=read(pair.target))
            for pair in self.pairs[edit]
        ]

    def rows(self, edit: int, read: Read = as_it_is) -> tuple[Tensor, Tensor]:  # [m, d] each
        """
        Return the keys of an edit that move, and what they should read as.

        Of all tokens those stay that a preserved prompt has too: in a causal encoder whatever
        comes before a subject is the same for its neighbours.
        """
        keys, targets = locoedit.moving_rows(self.aligned(edit, read), self.recipe.edit.tokens)
        if self.recipe.edit.tokens != "all":
            return keys, targets
        kept = {row.numpy().tobytes() for states in self.preserved for row in read(states)}
        moving = [i for i, key in enumerate(keys) if key.numpy().tobytes() not in kept]
        return keys[moving], targets[moving]


def edits_by_layer(layers_of: Sequence[tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
    """Return which edits share each layer that changes, from the layers of each edit."""
    return {
        layer: tuple(i for i, layers in enumerate(layers_of) if layer in layers)
        for layer in sorted({layer for layers in layers_of for layer in layers})
    }


def encode_problem(
    recipe: Recipe,
    kept: Sequence[str],
    encoder: TextEncoder,
    shared: Callable[[EncodedPrompt], EncodedPrompt] = lambda prompt: prompt,
    *,
    padded: bool | Collection[str] = True,
) -> Problem:
    """
    Return all prompts of a recipe encoded in one pass, and a few that it has nothing to do with.

    `shared` makes of a prompt what all tensors are given; those that are not `padded` stop at their
    end token.
    """
    encoded = encode_prompts(recipe, kept, encoder, padded=padded)
    return problem_of(recipe, kept, {prompt: shared(one) for prompt, one in encoded.items()})


def encode_prompts(
    recipe: Recipe,
    kept: Sequence[str],
    encoder: TextEncoder,
    *,
    padded: bool | Collection[str] = True,
) -> dict[str, EncodedPrompt]:
    """Return those prompts as the encoders give them, encoded in one pass."""
    pairs = [pair for entry in recipe.edits for pair in entry.edit_pairs]
    prompts = [prompt for pair in pairs for prompt in (pair.source, pair.target)]
    everything = [*prompts, *kept, *drift_prompts(edited_names(recipe), kept)]
    return dict(zip(everything, encoder.encode(everything, padded=padded), strict=True))


def problem_of(recipe: Recipe, kept: Sequence[str], states: Mapping[str, EncodedPrompt]) -> Problem:
    """Return a recipe's problem, whose prompts have these states."""
    pairs = [entry.edit_pairs for entry in recipe.edits]
    aligned = tuple(
        tuple(_aligned(pair, states[pair.source], states[pair.target]) for pair in edit)
        for edit in pairs
    )
    preserved = [states[prompt] for prompt in kept]
    return Problem(
        recipe,
        aligned,
        tuple(prompt.states for prompt in preserved),
        tuple(prompt.end for prompt in preserved),
        tuple(kept),
        tuple(states[prompt] for prompt in drift_prompts(edited_names(recipe), kept)),
    )


def _aligned(pair: PromptPair, source: EncodedPrompt, target: EncodedPrompt) -> locoedit.Aligned:
    return locoedit.Aligned(
        source.states,
        target.states,
        source.positions_of(pair.subject),
        source.end,
        target.end,
        target.start,
    )
