"""
The prompts of a recipe, encoded, as a system to solve: keys that move, and keys that stay.

Which positions of a source prompt are keys is `tokens`:

    last-subject     the subject's last token alone, as the paper's released code does
    subject-to-end   that token and every later position: a causal encoder carries the concept on
                     into all of them, end token and padding included
    all              every position

Both prompts of a pair run alike behind the subject, so position i of the source answers to position
`i - shift` of the target, where `shift` is the difference of their end positions.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from loco_cli.editing.deltas import DriftProbe
from loco_cli.editing.preserve import edited_names
from loco_cli.editing.ridge import Solution, solve_keys
from loco_cli.encoders.encode import EncodedPrompt, TextEncoder
from loco_cli.errors import EditError
from loco_cli.layers import LayerSet
from loco_cli.protocol.everyday import drift_prompts
from loco_cli.recipe.record import Recipe

Read = Callable[[Tensor], Tensor]  # the states that all tensors are given -> those that one reads


def _as_given(states: Tensor) -> Tensor:
    return states


@dataclass(frozen=True)
class AlignedPair:
    """
    A prompt pair, encoded: states [n_tokens, d_text], the subject's positions, the end positions.

    `start` is where words may begin: behind the start token, which says nothing, if there is one.
    """

    source: Tensor
    target: Tensor
    subject: tuple[int, ...]
    source_end: int
    target_end: int
    start: int = 1

    def answer(self, position: int) -> int:
        """Return the target position that a source position should read as."""
        if position < self.subject[0]:
            return min(position, self.target_end)  # the prompts begin alike
        shifted = max(position, self.subject[-1]) - (self.source_end - self.target_end)
        return min(max(shifted, self.start), len(self.target) - 1)

    def read(self, read: Read) -> "AlignedPair":
        """Return the pair as a tensor reads it."""
        return replace(self, source=read(self.source), target=read(self.target))


@dataclass(frozen=True)
class Problem:
    """
    The prompts of a recipe, encoded: the pairs of each edit, and what is preserved.

    A tensor reads them by a function of its own, from states that are given to all of them. The
    drift of `preserved` and of `unrelated` prompts is measured.
    """

    recipe: Recipe
    pairs: tuple[tuple[AlignedPair, ...], ...]
    preserved: Mapping[str, EncodedPrompt]
    unrelated: tuple[EncodedPrompt, ...] = ()

    def mapped(self, read: Read) -> "Problem":
        """Return the problem with other states for all tensors, made of the present ones."""
        return replace(
            self,
            pairs=tuple(tuple(pair.read(read) for pair in edit) for edit in self.pairs),
            preserved={
                text: replace(prompt, states=read(prompt.states))
                for text, prompt in self.preserved.items()
            },
            unrelated=tuple(replace(one, states=read(one.states)) for one in self.unrelated),
        )

    def by_layer(
        self,
        edits_of: Mapping[int, tuple[int, ...]],
        prompts_of: Mapping[tuple[int, ...], Collection[str]],
    ) -> dict[int, "Problem"]:
        """
        Return the problem of each layer: it preserves the prompts of the edits that share it.

        `edits_of` has the edits of each layer, `prompts_of` what they preserve together.
        """
        problem_of = {
            edits: replace(
                self,
                preserved={
                    text: self.preserved[text] for text in self.preserved if text in prompts
                },
            )
            for edits, prompts in prompts_of.items()
        }
        return {layer: problem_of[edits] for layer, edits in edits_of.items()}

    def solve(self, edits: Sequence[int], read: Read = _as_given) -> Solution:
        """Return the solution of some edits together, for tensors that read so."""
        rows = [self.rows(i, read) for i in edits]
        keys, targets = (torch.cat(parts) for parts in zip(*rows, strict=True))
        preserved, fixed = self.preserved_rows(read)
        return solve_keys(keys, targets, preserved, fixed, self.recipe.edit.fixed_ridge)

    def rows(self, edit: int, read: Read = _as_given) -> tuple[Tensor, Tensor]:  # [m, d] each
        """
        Return the keys of an edit that move, and their targets; rows in place are left out.

        Of all tokens those stay that a preserved prompt has too: in a causal encoder whatever
        comes before a subject is the same for its neighbours.
        """
        tokens, moving = self.recipe.edit.tokens, []
        for pair in (pair.read(read) for pair in self.pairs[edit]):
            last = pair.subject[-1]
            stop = last + 1 if tokens == "last-subject" else len(pair.source)
            for position in range(0 if tokens == "all" else last, stop):
                key, target = pair.source[position], pair.target[pair.answer(position)]
                if not torch.equal(key, target):
                    moving.append((key, target))
        if not moving:
            raise EditError(
                "every source prompt already reads as its target; there is nothing to edit"
            )
        keys, targets = map(torch.stack, zip(*moving, strict=True))
        if tokens != "all":
            return keys, targets
        encoded = self.preserved.values()
        preserved = {row.numpy().tobytes() for prompt in encoded for row in read(prompt.states)}
        free = [i for i, key in enumerate(keys) if key.numpy().tobytes() not in preserved]
        return keys[free], targets[free]

    def preserved_rows(
        self, read: Read = _as_given
    ) -> tuple[Tensor, Tensor | None]:  # [p, d], [f, d]
        """
        Return the keys that are rows of the ridge system, and those that are kept exactly.

        In the null-space form that is all up to the end of a prompt's words; the padding behind
        it, which would fill every direction, stays in the system.
        """
        states = [read(prompt.states) for prompt in self.preserved.values()]
        nothing = read(self.pairs[0][0].source)[:0]
        if self.recipe.edit.preserve_form == "ridge":
            return torch.cat([nothing, *states]), None
        ends = [prompt.end + 1 for prompt in self.preserved.values()]
        padding = [rows[end:] for rows, end in zip(states, ends, strict=True)]
        words = [rows[:end] for rows, end in zip(states, ends, strict=True)]
        return torch.cat([nothing, *padding]), torch.cat(words)

    def drift_probe(self, read: Read = _as_given) -> DriftProbe:
        """Return the prompts whose drift is measured, with the rows of their words."""
        start = self.pairs[0][0].start
        prompts = (*self.preserved.values(), *self.unrelated)
        return DriftProbe(
            (*self.preserved, *(prompt.text for prompt in self.unrelated)),
            tuple(read(prompt.states)[start : prompt.end] for prompt in prompts),
            len(self.preserved),
        )


def encode_problem(
    recipe: Recipe,
    preserved: Sequence[str],
    encoder: TextEncoder,
    *,
    padded: bool | Collection[str] = True,
) -> Problem:
    """
    Return all prompts of a recipe encoded in one pass, and a few that it has nothing to do with.

    Those that are not `padded` stop at their end token.
    """
    pairs = [entry.edit_pairs for entry in recipe.edits]
    edited = [prompt for edit in pairs for pair in edit for prompt in (pair.source, pair.target)]
    unrelated = drift_prompts(edited_names(recipe), preserved)
    prompts = [*edited, *preserved, *unrelated]
    encoded = dict(zip(prompts, encoder.encode(prompts, padded=padded), strict=True))
    aligned: list[list[AlignedPair]] = [[] for _ in pairs]
    for i, pair in ((i, pair) for i, edit in enumerate(pairs) for pair in edit):
        source, target = encoded[pair.source], encoded[pair.target]
        subject = source.positions_of(pair.subject)
        ends = source.end, target.end, target.start
        aligned[i].append(AlignedPair(source.states, target.states, subject, *ends))
    return Problem(
        recipe,
        tuple(map(tuple, aligned)),
        {prompt: encoded[prompt] for prompt in preserved},
        tuple(encoded[prompt] for prompt in unrelated),
    )


def edits_by_layer(layers_of: Sequence[LayerSet]) -> dict[int, tuple[int, ...]]:
    """Return which edits share each layer that changes, from the layers of each edit."""
    return {
        layer: tuple(i for i, layers in enumerate(layers_of) if layer in layers)
        for layer in sorted({layer for layers in layers_of for layer in layers})
    }
