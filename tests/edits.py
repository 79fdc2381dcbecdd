"""A real edit of a small checkpoint, as the edit workflow makes it, without a model to run."""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from loco_cli.checkpoint.layout import Checkpoint, open_checkpoint
from loco_cli.checkpoint.reader import TensorSlot, read_array
from loco_cli.families import registry
from loco_cli.manifest import (
    EditRecord,
    Environment,
    Manifest,
    ModelRecord,
    RecipeRecord,
    TensorRecord,
)
from loco_cli.outputs.checkpoint import BaseFacts, WrittenEdit, write_edit
from tests.checkpoints import WIDTHS

LAYERS = (8, 9)
NAMES = tuple(
    name for layer in LAYERS for name in registry.family("sd1").layers(WIDTHS)[layer].tensor_names()
)
RECIPE = "loco: 1\ntitle: Remove the style of Van Gogh\n"
EDIT = EditRecord(
    kind="style",
    subject="van gogh",
    to="painting",
    method="locoedit",
    layer_range=(LAYERS[0], LAYERS[-1] + 1),
    ridge=0.01,
    tokens="subject-to-end",
    n_keys=1,
)
ENVIRONMENT = Environment(
    python="3.12", torch=None, diffusers=None, transformers=None, device="cpu", dtype="float32"
)
EXTRA_FILES = {"recipe": RECIPE, "report": "<html></html>", "card": "# edited\n"}


def edit(
    base: Path,
    output: Path,
    *,
    names: Iterable[str] = NAMES,
    stamp: bool = True,
    force: bool = False,
    size: float = 0.5,
) -> WrittenEdit:
    """Add a rank-one step to the key and value projections of layers 8 and 9, and write it."""
    checkpoint = open_checkpoint(base)
    patches = {s: patch_of(s, size) for name in names for s in checkpoint.slots("unet", name)}
    return write_edit(
        checkpoint,
        output,
        patches,
        lambda facts: manifest_of(checkpoint, facts),
        EXTRA_FILES,
        stamp=stamp,
        force=force,
    )


def patch_of(slot: TensorSlot, size: float = 0.5) -> bytes:
    """Return a slot's bytes with a rank-one step added, as numpy can write them."""
    before = read_array(slot)
    step = np.outer(np.linspace(-1, 1, before.shape[0]), np.linspace(1, 2, before.shape[1]))
    return (before + size * step).astype(before.dtype).tobytes()


def manifest_of(checkpoint: Checkpoint, facts: BaseFacts) -> Manifest:
    """Return the manifest of such an edit."""
    return Manifest(
        loco_version="0.1.0",
        created="2026-01-01T00:00:00+00:00",
        command=("loco", "edit", "recipe.yaml"),
        recipe=RecipeRecord(text=RECIPE, sha256=hashlib.sha256(RECIPE.encode()).hexdigest()),
        model=ModelRecord(name=facts.base.name, family=checkpoint.family.name),
        base=facts.base,
        edits=(EDIT,),
        tensors=tuple(
            TensorRecord(**asdict(tensor), rank=1, relative_change=0.1, rounding_error=0.001)
            for tensor in facts.tensors
        ),
        environment=ENVIRONMENT,
    )
