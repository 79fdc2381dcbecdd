"""What a checkpoint is: its architecture, read off its tensors and what is said beside them."""

import json
from typing import Any

from loco_cli.checkpoint.layout import Checkpoint
from loco_cli.errors import CheckpointError, printable
from loco_cli.families.family import n_blocks, spec_for
from loco_cli.families.spec import ModelSpec

_TURBO = "stable-diffusion-xl-turbo-v1"
_MODELSPEC = ("modelspec.architecture", "modelspec.prediction_type")


def spec_of(checkpoint: Checkpoint) -> ModelSpec:
    """
    Return what is known of a checkpoint's architecture.

    That of a known model with the same layers and widths, else one read off its own tensors.
    """
    widths = [
        checkpoint.slots("unet", f"down_blocks.{i}.resnets.0.conv1.weight")[0].canonical_shape[0]
        for i in range(n_blocks(checkpoint.family))
    ]
    architecture, prediction = declared_architecture(checkpoint)
    spec = spec_for(
        checkpoint.family,
        widths,
        checkpoint.d_text,
        architecture=architecture,
        prediction=prediction,
    )
    _check_shapes(checkpoint, spec)
    return spec


def declared_architecture(checkpoint: Checkpoint) -> tuple[str | None, str | None]:
    """
    Return what is said of a model beside its tensors: its architecture, and what its UNet predicts.

    A file's metadata says it in modelspec's words, a folder in its scheduler's.
    """
    metadata = [file.header.metadata for file in checkpoint.files]
    architecture, prediction = (
        next((one[key] for one in metadata if key in one), None) for key in _MODELSPEC
    )
    scheduler = _scheduler(checkpoint)
    if scheduler.get("timestep_spacing") == "trailing":  # steps few and large: SDXL's Turbo
        architecture = architecture or _TURBO
    prediction = "v_prediction" if prediction == "v" else prediction
    return architecture, scheduler.get("prediction_type") or prediction


def _check_shapes(checkpoint: Checkpoint, spec: ModelSpec) -> None:
    """Raise CheckpointError where a key or value projection has not the shape of its block."""
    for name, shape in spec.tensor_shapes().items():
        found = checkpoint.slots("unet", name)[0].canonical_shape
        if found != shape:
            raise CheckpointError(
                f"tensor `{name}` of `{printable(checkpoint.root)}` is {list(found)}, "
                f"its block says {list(shape)}"
            )


def _scheduler(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what a folder says of its sampler, nothing where it says nothing."""
    path = checkpoint.root / "scheduler" / "scheduler_config.json"
    if not checkpoint.is_folder or not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
