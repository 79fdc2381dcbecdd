"""
The encoded prompts of a recipe as a linear system: keys that move, and keys that stay.

The setting `tokens` selects the positions of a source prompt that become keys:

    last-subject     only the subject's last token, as in the paper's released code
    subject-to-end   that token and every later position: a causal encoder passes the concept on
                     to all of them, including the end token and padding
    all              every position

After the subject, both prompts of a pair have the same words. Position i of the source therefore
matches position `i - shift` of the target, where `shift` is the difference of their end positions.
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

Read = Callable[[Tensor], Tensor]  # shared states -> the input of one tensor


def _identity(states: Tensor) -> Tensor:
    return states


@dataclass(frozen=True)
class AlignedPair:
    """
    An encoded prompt pair with the positions that match.

    Args:
        source: The states of the source prompt, [n_tokens, d_text].
        target: The states of the target prompt, [n_tokens, d_text].
        subject: The positions of the subject in the source prompt.
        source_end: The position of the first end token of the source prompt.
        target_end: The position of the first end token of the target prompt.
        start: The position of the first word: 1 after a start token, else 0.
    """

    source: Tensor
    target: Tensor
    subject: tuple[int, ...]
    source_end: int
    target_end: int
    start: int = 1

    def target_position(self, position: int) -> int:
        """Return the position of the target prompt that matches one of the source prompt."""
        if position < self.subject[0]:
            return min(position, self.target_end)  # both prompts begin with the same words
        shifted = max(position, self.subject[-1]) - (self.source_end - self.target_end)
        return min(max(shifted, self.start), len(self.target) - 1)

    def read(self, read: Read) -> "AlignedPair":
        """Map the states of both prompts to the input of a tensor."""
        return replace(self, source=read(self.source), target=read(self.target))


@dataclass(frozen=True)
class Problem:
    """
    The encoded prompts of a recipe.

    All tensors share these states. The argument `read` of a method maps them to the input of one
    tensor, and is the identity by default.

    Args:
        recipe: The recipe, for its settings.
        pairs: The prompt pairs of each edit.
        preserved: The preserved prompts by their text. Their drift is measured.
        unrelated: Prompts for measuring drift that take no part in the solve.
    """

    recipe: Recipe
    pairs: tuple[tuple[AlignedPair, ...], ...]
    preserved: Mapping[str, EncodedPrompt]
    unrelated: tuple[EncodedPrompt, ...] = ()

    def mapped(self, read: Read) -> "Problem":
        """Map the shared states, and return the problem with the new ones."""
        return replace(
            self,
            pairs=tuple(tuple(pair.read(read) for pair in edit) for edit in self.pairs),
            preserved={
                text: replace(prompt, states=read(prompt.states))
                for text, prompt in self.preserved.items()
            },
            unrelated=tuple(
                replace(prompt, states=read(prompt.states)) for prompt in self.unrelated
            ),
        )

    def by_layer(
        self,
        edits_of: Mapping[int, tuple[int, ...]],
        prompts_of: Mapping[tuple[int, ...], Collection[str]],
    ) -> dict[int, "Problem"]:
        """
        Return the problem of each layer, which preserves the prompts of the edits in that layer.

        Args:
            edits_of: The indices of the edits in each layer.
            prompts_of: The prompts that a group of edits preserves.
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

    def solve(self, edits: Sequence[int], read: Read = _identity) -> Solution:
        """Solve some edits together, for the tensors whose input is `read` of the states."""
        rows = [self.rows(i, read) for i in edits]
        keys, targets = (torch.cat(parts) for parts in zip(*rows, strict=True))
        preserved, fixed = self.preserved_rows(read)
        return solve_keys(keys, targets, preserved, fixed, self.recipe.edit.fixed_ridge)

    def rows(self, edit: int, read: Read = _identity) -> tuple[Tensor, Tensor]:  # [m, d] each
        """
        Return the keys of an edit that move, and their targets.

        Keys that equal their target are left out. With `tokens: all`, keys that a preserved prompt
        shares are left out too. In a causal encoder, a prompt and its neighbours share all states
        before the subject.

        Raises:
            EditError: Every key equals its target.
        """
        tokens, moving = self.recipe.edit.tokens, []
        for pair in (pair.read(read) for pair in self.pairs[edit]):
            last = pair.subject[-1]
            stop = last + 1 if tokens == "last-subject" else len(pair.source)
            for position in range(0 if tokens == "all" else last, stop):
                key, target = pair.source[position], pair.target[pair.target_position(position)]
                if not torch.equal(key, target):
                    moving.append((key, target))
        if not moving:
            raise EditError(
                "every source prompt already equals its target; there is nothing to edit"
            )
        keys, targets = map(torch.stack, zip(*moving, strict=True))
        if tokens != "all":
            return keys, targets
        encoded = self.preserved.values()
        preserved = {row.numpy().tobytes() for prompt in encoded for row in read(prompt.states)}
        free = [i for i, key in enumerate(keys) if key.numpy().tobytes() not in preserved]
        return keys[free], targets[free]

    def preserved_rows(
        self, read: Read = _identity
    ) -> tuple[Tensor, Tensor | None]:  # [p, d], [f, d]
        """
        Return the preserved keys that are rows of the ridge system, and those kept exactly.

        The ridge form has no exact keys. The null-space form keeps a prompt exactly up to its end
        token. Padding stays in the ridge system, because it would use up every direction.
        """
        states = [read(prompt.states) for prompt in self.preserved.values()]
        no_rows = read(self.pairs[0][0].source)[:0]
        if self.recipe.edit.preserve_form == "ridge":
            return torch.cat([no_rows, *states]), None
        ends = [prompt.end + 1 for prompt in self.preserved.values()]
        padding = [rows[end:] for rows, end in zip(states, ends, strict=True)]
        words = [rows[:end] for rows, end in zip(states, ends, strict=True)]
        return torch.cat([no_rows, *padding]), torch.cat(words)

    def drift_probe(self, read: Read = _identity) -> DriftProbe:
        """Return the probe for the drift of a tensor whose input is `read` of the states."""
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
    Encode all prompts of a recipe, and unrelated ones that measure drift, in one pass.

    Args:
        recipe: The recipe with the edits.
        preserved: The prompts that keep their keys and values.
        encoder: The text encoder of the model.
        padded: The prompts to encode with all their padding, True for every prompt. The others
            stop at their end token.

    Raises:
        ConceptError: A source prompt contains no token of its subject.
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
    """Invert the layers of each edit to the edits of each layer, in the order of layers."""
    return {
        layer: tuple(i for i, layers in enumerate(layers_of) if layer in layers)
        for layer in sorted({layer for layers in layers_of for layer in layers})
    }
