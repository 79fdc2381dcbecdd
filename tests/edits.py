"""An edit of a small checkpoint with given weights, as the edit command writes it."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from loco_cli.checkpoint.layout import Checkpoint, open_checkpoint
from loco_cli.checkpoint.reader import TensorSlot, read_array
from loco_cli.families import registry
from loco_cli.manifest import (
    Base,
    EditRecord,
    Environment,
    Manifest,
    ModelRecord,
    RecipeRecord,
    TensorEdit,
    TensorRecord,
)
from loco_cli.outputs.checkpoint import EditResult, edited_copy
from loco_cli.outputs.paths import OutputPaths, check_output, needed_bytes
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
) -> EditResult:
    """Add a rank-one step to the key and value projections of layers 8 and 9, and write it."""
    checkpoint = open_checkpoint(base)
    patches = {s: patch_of(s, size) for name in names for s in checkpoint.slots("unet", name)}
    return write_patches(checkpoint, output, patches, stamp=stamp, force=force)


def write_patches(
    checkpoint: Checkpoint,
    output: Path,
    patches: Mapping[TensorSlot, bytes],
    make_manifest: Callable[[Base, tuple[TensorRecord, ...]], Manifest] | None = None,
    *,
    stamp: bool = True,
    force: bool = False,
) -> EditResult:
    """Write a checkpoint with new content of some slots, after the checks of a plan."""
    final = OutputPaths.of(output, checkpoint.is_folder)
    room = needed_bytes(checkpoint, sum(map(len, patches.values())))
    check_output(checkpoint, final, needed_bytes=room, force=force)
    what = "edited" if stamp else None
    with edited_copy(checkpoint, final, tuple(patches), what, force=force) as copy:
        for slot, content in patches.items():
            copy.put(slot, content, figures_of(slot))
        return copy.finish(
            make_manifest or (lambda *facts: manifest_of(checkpoint, *facts)),
            lambda manifest: pages_of(checkpoint),
        )


def pages_of(checkpoint: Checkpoint) -> dict[str, str | bytes]:
    """Return the files beside the weights; only a folder has a card."""
    return {k: v for k, v in EXTRA_FILES.items() if k != "card" or checkpoint.is_folder}


def figures_of(slot: TensorSlot) -> TensorEdit:
    """Return the figures of an edited tensor for the manifest."""
    return TensorEdit(slot.file, slot.tensor, slot.dtype, 1, 0.1, 0.001)


def patch_of(slot: TensorSlot, size: float = 0.5) -> bytes:
    """Return the bytes of a slot plus a rank-one step, computed without torch."""
    before = read_array(slot)
    step = np.outer(np.linspace(-1, 1, before.shape[0]), np.linspace(1, 2, before.shape[1]))
    return (before + size * step).astype(before.dtype).tobytes()


def manifest_of(checkpoint: Checkpoint, base: Base, tensors: tuple[TensorRecord, ...]) -> Manifest:
    """Return the manifest of an edit, without output files."""
    return Manifest(
        loco_version="0.1.0",
        created="2026-01-01T00:00:00+00:00",
        command=("loco", "edit", "recipe.yaml"),
        recipe=RecipeRecord(text=RECIPE, sha256=hashlib.sha256(RECIPE.encode()).hexdigest()),
        model=ModelRecord(name=base.name, family=checkpoint.family.name),
        base=base,
        edits=(EDIT,),
        tensors=tensors,
        environment=ENVIRONMENT,
    )
