"""From a recipe and its layers to new weights: encode, align, solve once per set of layers."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from loco_cli.checkpoint.reader import read_tensor, tensor_bytes
from loco_cli.checkpoint.slot import TensorSlot
from loco_cli.concept import PromptPair
from loco_cli.editors import locoedit
from loco_cli.errors import EditError
from loco_cli.layers import as_window
from loco_cli.manifest import EditRecord
from loco_cli.recipe import AUTO_RIDGE, EditEntry, Recipe
from loco_cli.runtime.encode import EncodedPrompt, TextEncoder
from loco_cli.workflows.contexts import Contexts
from loco_cli.workflows.locate import Located
from loco_cli.workflows.preserve import Preserved, chosen_neighbours, preserved_prompts

Read = Callable[[Tensor], Tensor]  # states that all layers are given -> what one of them reads


@dataclass(frozen=True)
class Solved:
    """
    An edit before it is written: what each layer's projections become, and what was solved.

    `solution_of` holds the layers that change; layers of the same edits share a solution where
    they read alike. An edit's record has the ridge of its first layer.
    """

    solution_of: Mapping[int, locoedit.Solution]
    records: tuple[EditRecord, ...]
    preserved: tuple[Preserved, ...]
    seconds: float


@dataclass(frozen=True)
class NewWeight:
    """One edited copy of a tensor: the bytes that replace its slot, and how far it moved."""

    slot: TensorSlot
    content: bytes
    stored: Tensor  # as it will be read back, in the slot's dtype
    rank: int
    relative_change: float
    rounding_error: float


def solve(
    located: Located, recipe: Recipe, layers_of: Sequence[tuple[int, ...]], encoder: TextEncoder
) -> Solved:
    """
    Return the solved edit of a recipe whose edits touch the given layers, one tuple for each edit.

    Edits are solved together in every layer that they share. Where all layers read alike, those of
    the same edits share a solution; else each layer has its own.
    """
    started = time.monotonic()
    contexts = Contexts(located)
    chosen = chosen_neighbours(located.spec, recipe, encoder)
    problem = _encode(recipe, preserved_prompts(located.spec, recipe, chosen), contexts, encoder)
    solutions: dict[tuple[tuple[int, ...], int | None], locoedit.Solution] = {}
    solution_of: dict[int, locoedit.Solution] = {}
    for layer in sorted({layer for layers in layers_of for layer in layers}):
        edits = tuple(i for i, layers in enumerate(layers_of) if layer in layers)
        key = (edits, layer if contexts.norm else None)
        if key not in solutions:
            solutions[key] = problem.solve(edits, contexts.of_layer(layer))
        solution_of[layer] = solutions[key]
    records = tuple(
        _record(
            entry,
            recipe,
            layers,
            solution_of[layers[0]].ridge,
            len(problem.rows(i, contexts.of_layer(layers[0]))[0]),
        )
        for i, (entry, layers) in enumerate(zip(recipe.edits, layers_of, strict=True))
    )
    return Solved(solution_of, records, chosen, time.monotonic() - started)


def new_weights(located: Located, solved: Solved) -> tuple[NewWeight, ...]:
    """
    Return every edited copy of every tensor.

    Raises EditError where one is not finite, or none differs from what it was.
    """
    weights = tuple(iter_new_weights(located, solved))
    if not any(weight.relative_change for weight in weights):
        raise EditError(
            f"the edit changes nothing: all of its {len(weights)} tensors keep their values",
            "lower `--ridge`",
        )
    return weights


def iter_new_weights(located: Located, solved: Solved) -> Iterator[NewWeight]:
    """Yield every edited copy of every tensor, in the order of `edited_slots`."""
    for layer, solution in solved.solution_of.items():
        for slot in edited_slots(located, (layer,)):
            yield _new_weight(slot, solution)


def edited_slots(located: Located, layers: Iterable[int]) -> tuple[TensorSlot, ...]:
    """Return every copy of every tensor that an edit in these layers replaces."""
    return tuple(
        slot
        for layer in sorted(set(layers))
        for name in located.spec.layers[layer].tensor_names()
        for slot in located.checkpoint.slots("unet", name)
    )


def read_change(
    slot: TensorSlot, solution: locoedit.Solution
) -> tuple[Tensor, Tensor, Tensor]:  # [d_out, d_text], [d_out, m], [m, d_text]
    """Return a projection as it is and its change in two factors; raises EditError."""
    weight = read_tensor(slot)
    if weight.shape[1] != solution.directions.shape[1]:
        raise EditError(
            f"`{slot.key}` reads {weight.shape[1]} numbers per token, "
            f"the text encoder writes {solution.directions.shape[1]}"
        )
    if not torch.isfinite(weight).all():
        raise EditError(f"`{slot.key}` of the base holds NaN or Inf")
    return weight, *solution.change(weight)


def _new_weight(slot: TensorSlot, solution: locoedit.Solution) -> NewWeight:
    weight, left, right = read_change(slot, solution)
    wanted = left @ right  # [d_out, d_text], float64
    stored = (weight.double() + wanted).to(weight.dtype)
    content = tensor_bytes(stored, slot)
    made = stored.double() - weight.double()
    return NewWeight(
        slot=slot,
        content=content,
        stored=stored,
        rank=_rank(left, solution.triangle),
        relative_change=_share(made, weight.double()),
        rounding_error=_share(made - wanted, wanted),
    )


def _share(part: Tensor, whole: Tensor) -> float:
    size = whole.norm()
    return (part.norm() / size).item() if size else 0.0


def _rank(left: Tensor, triangle: Tensor) -> int:
    """Return the rank of a change from its left factor and what stands for its right one."""
    _, own = torch.linalg.qr(left)
    return int(torch.linalg.matrix_rank(own @ triangle.T))


@dataclass(frozen=True)
class _Problem:
    """
    The prompts of a recipe, encoded: for each edit its pairs, and what is preserved.

    A layer reads them by a function of its own, from states that the UNet gives to all layers.
    """

    recipe: Recipe
    pairs: tuple[tuple[locoedit.Aligned, ...], ...]
    preserved: tuple[Tensor, ...]  # [n_tokens, d_text] each

    def solve(self, edits: Sequence[int], read: Read) -> locoedit.Solution:
        """Return the solution of some edits together, in a layer that reads so."""
        ridge = self.recipe.edit.ridge
        ridge = AUTO_RIDGE if ridge == "auto" else ridge
        rows = [self.rows(i, read) for i in edits]
        keys, targets = (torch.cat(parts) for parts in zip(*rows, strict=True))
        kept = torch.cat([keys[:0], *map(read, self.preserved)])
        return locoedit.solve(keys, targets, kept, ridge.value, relative=ridge.is_relative)

    def rows(self, edit: int, read: Read) -> tuple[Tensor, Tensor]:  # [m, d_text] each
        """Return the keys of an edit that move, and what they should read as."""
        pairs = [
            replace(pair, source=read(pair.source), target=read(pair.target))
            for pair in self.pairs[edit]
        ]
        return locoedit.moving_rows(pairs, self.recipe.edit.tokens)


def _encode(
    recipe: Recipe, kept: Sequence[str], contexts: Contexts, encoder: TextEncoder
) -> _Problem:
    """Return all prompts of a recipe encoded in one pass, and no further than they are needed."""
    pairs = [entry.edit_pairs() for entry in recipe.edits]
    prompts = [prompt for edit in pairs for pair in edit for prompt in (pair.source, pair.target)]
    reaches_padding = recipe.edit.tokens != "last-subject" or kept or contexts.norm
    encoded = encoder.encode([*prompts, *kept], padded=bool(reaches_padding))
    states = {
        prompt: contexts.shared(one) for prompt, one in zip([*prompts, *kept], encoded, strict=True)
    }
    aligned = tuple(
        tuple(_aligned(pair, states[pair.source], states[pair.target]) for pair in edit)
        for edit in pairs
    )
    return _Problem(recipe, aligned, tuple(states[prompt].states for prompt in kept))


def _aligned(pair: PromptPair, source: EncodedPrompt, target: EncodedPrompt) -> locoedit.Aligned:
    return locoedit.Aligned(
        source.states,
        target.states,
        source.positions_of(pair.subject),
        source.end,
        target.end,
        target.start,
    )


def _record(
    entry: EditEntry,
    recipe: Recipe,
    layers: tuple[int, ...],
    ridge: float,
    n_keys: int,
) -> EditRecord:
    concept, window = entry.concept(), as_window(layers)
    return EditRecord(
        kind=concept.kind,
        subject=concept.subject,
        to=concept.to,
        method=recipe.edit.method,
        layer_range=(window.start, window.stop) if window else None,
        layers=None if window else layers,
        ridge=ridge,
        tokens=recipe.edit.tokens,
        n_keys=n_keys,
    )
