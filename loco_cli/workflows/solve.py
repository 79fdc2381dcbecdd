"""From a recipe and its layers to new weights: encode, align, solve once per set of layers."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from loco_cli.checkpoint.reader import read_tensor, tensor_bytes
from loco_cli.checkpoint.slot import TensorSlot
from loco_cli.editors import locoedit
from loco_cli.errors import EditError
from loco_cli.layers import as_window
from loco_cli.manifest import EditRecord
from loco_cli.recipe import AUTO_RIDGE, EditEntry, Recipe
from loco_cli.runtime.encode import (
    TextEncoder,
    load_text_encoder,
    load_tokenizer,
    read_config,
)
from loco_cli.workflows.locate import Located
from loco_cli.workflows.preserve import Preserved, chosen_neighbours, preserved_prompts


@dataclass(frozen=True)
class Solved:
    """
    An edit before it is written: what each layer's projections become, and what was solved.

    `solution_of` holds the layers that change; layers of the same edits share a solution.
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


def load_encoder(located: Located) -> TextEncoder:
    """Return the text encoder of a checkpoint, built from its own tensors, on the CPU."""
    names = located.checkpoint.names("text_encoder")
    if not names:
        raise EditError(
            f"`{located.path}` has no text encoder, and an edit needs its embeddings",
            "give the whole checkpoint",
        )
    tensors = {
        name: read_tensor(located.checkpoint.slots("text_encoder", name)[0]) for name in names
    }
    config = read_config(located.config / "text_encoder" / "config.json")
    return load_text_encoder(config, tensors, load_tokenizer(located.config / "tokenizer"))


def solve(
    located: Located, recipe: Recipe, layers_of: Sequence[tuple[int, ...]], encoder: TextEncoder
) -> Solved:
    """
    Return the solved edit of a recipe whose edits touch the given layers, one tuple for each edit.

    Edits are solved together in every layer that they share.
    """
    started = time.monotonic()
    rows = [_rows(entry, recipe, encoder) for entry in recipe.edits]
    chosen = chosen_neighbours(located.spec, recipe, encoder)
    preserved = _all_states(encoder, preserved_prompts(located.spec, recipe, chosen))
    ridge = AUTO_RIDGE if recipe.edit.ridge == "auto" else recipe.edit.ridge
    solutions: dict[tuple[int, ...], locoedit.Solution] = {}
    solution_of: dict[int, locoedit.Solution] = {}
    for layer in sorted({layer for layers in layers_of for layer in layers}):
        edits = tuple(i for i, layers in enumerate(layers_of) if layer in layers)
        if edits not in solutions:
            keys = torch.cat([rows[i][0] for i in edits])
            targets = torch.cat([rows[i][1] for i in edits])
            solutions[edits] = locoedit.solve(
                keys, targets, preserved, ridge.value, relative=ridge.is_relative
            )
        solution_of[layer] = solutions[edits]
    records = tuple(
        _record(entry, recipe, layers, solution_of[layers[0]].ridge, len(row[0]))
        for entry, layers, row in zip(recipe.edits, layers_of, rows, strict=True)
    )
    return Solved(solution_of, records, chosen, time.monotonic() - started)


def new_weights(located: Located, solved: Solved) -> tuple[NewWeight, ...]:
    """
    Return every edited copy of every tensor.

    Raises EditError where one is not finite, or none differs from what it was.
    """
    weights = tuple(
        _new_weight(slot, solved.solution_of[layer])
        for layer, name in _touched(located, solved.solution_of)
        for slot in located.checkpoint.slots("unet", name)
    )
    if not any(weight.relative_change for weight in weights):
        raise EditError(
            f"the edit changes nothing: all of its {len(weights)} tensors keep their values",
            "lower `--ridge`",
        )
    return weights


def _touched(located: Located, layers: Iterable[int]) -> list[tuple[int, str]]:
    return [(layer, name) for layer in layers for name in located.spec.layers[layer].tensor_names()]


def _new_weight(slot: TensorSlot, solution: locoedit.Solution) -> NewWeight:
    weight = read_tensor(slot)  # [d_out, d_text]
    if weight.shape[1] != solution.directions.shape[1]:
        raise EditError(
            f"`{slot.key}` reads {weight.shape[1]} numbers per token, "
            f"the text encoder writes {solution.directions.shape[1]}"
        )
    if not torch.isfinite(weight).all():
        raise EditError(f"`{slot.key}` of the base holds NaN or Inf")
    left, right = solution.change(weight)
    wanted = left @ right  # [d_out, d_text], float64
    stored = (weight.double() + wanted).to(weight.dtype)
    content = tensor_bytes(stored, slot)
    made = stored.double() - weight.double()
    return NewWeight(
        slot=slot,
        content=content,
        stored=stored,
        rank=_rank(left, right),
        relative_change=_share(made, weight.double()),
        rounding_error=_share(made - wanted, wanted),
    )


def _share(part: Tensor, whole: Tensor) -> float:
    size = whole.norm()
    return (part.norm() / size).item() if size else 0.0


def _rank(left: Tensor, right: Tensor) -> int:
    """Return the rank of `left @ right` from its factors, without the product's singular values."""
    _, r_left = torch.linalg.qr(left)
    _, r_right = torch.linalg.qr(right.T)
    return int(torch.linalg.matrix_rank(r_left @ r_right.T))


def _rows(entry: EditEntry, recipe: Recipe, encoder: TextEncoder) -> tuple[Tensor, Tensor]:
    pairs = entry.edit_pairs()
    sources = encoder.encode([pair.source for pair in pairs])
    targets = encoder.encode([pair.target for pair in pairs])
    aligned = [
        locoedit.Aligned(
            source.states, target.states, source.positions_of(pair.subject), source.end, target.end
        )
        for pair, source, target in zip(pairs, sources, targets, strict=True)
    ]
    return locoedit.moving_rows(aligned, recipe.edit.tokens)


def _all_states(encoder: TextEncoder, prompts: Sequence[str]) -> Tensor:  # [n, d_text]
    if not prompts:
        return torch.zeros(0, encoder.model.config.hidden_size)
    return torch.cat([encoded.states for encoded in encoder.encode(prompts)])


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
