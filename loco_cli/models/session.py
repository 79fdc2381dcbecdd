"""
The pipelines, scorers and judges that a command loads, and the options of a run.

diffusers and transformers are imported on the first load. An edit in named layers needs neither.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from loco_cli.checkpoint.reader import read_tensor
from loco_cli.errors import RequestError
from loco_cli.events import SILENT_EVENTS, Events
from loco_cli.families import registry
from loco_cli.models.hub import SCORER_FILES, fetch
from loco_cli.models.locate import LocatedModel, check_components
from loco_cli.sampling.processes import Team

if TYPE_CHECKING:
    from torch import Tensor

    from loco_cli.sampling.clip_score import ClipScorer
    from loco_cli.sampling.pipeline import Pipeline

_SHIPPED = Path(__file__).parents[1] / "tiny" / "weights"
_SCORER_HINT = "point to the folder of a CLIP model with `--scorer PATH`"


@dataclass(frozen=True)
class RunOptions:
    """
    Options for running a model: `RunOptions(device="cpu", batch_size=8)`.

    Args:
        device: `auto`, `cpu`, `cuda` or `mps`.
        dtype: `auto`, `float32`, `float16` or `bfloat16`.
        batch_size: The number of images that are generated together, or `auto`.
        scorer: The folder or hub id of a CLIP model, None for the model's own.
        is_cached: Store finished runs, and reuse stored ones.
        team: The processes that share the runs of a localization.
    """

    device: str = "auto"
    dtype: str = "auto"
    batch_size: int | str = "auto"
    scorer: str | None = None
    is_cached: bool = True
    team: Team = field(default_factory=Team)


def load_model(
    located: LocatedModel, options: RunOptions, events: Events = SILENT_EVENTS
) -> "Pipeline":
    """
    Load the pipeline of a model onto a device.

    Args:
        located: The model.
        options: Device and dtype.
        events: Receives the progress.

    Raises:
        CheckpointError: The checkpoint lacks a component that generates images.
    """
    from loco_cli.sampling.pipeline import load_pipeline

    stage = f"loading {located.name}"
    events.progress(stage, 0, 1)
    check_components(located)
    pipeline = load_pipeline(
        located.path,
        located.spec,
        config=located.config,
        holds=located.checkpoint.holds,
        tensors=lambda component: _tensors(located, component),
        device=options.device,
        dtype=options.dtype,
    )
    events.progress(stage, 1, 1)
    return pipeline


def load_scorer(located: LocatedModel, options: RunOptions) -> "ClipScorer":
    """Load the scorer that the options name, or else the model's default scorer."""
    name = options.scorer or located.spec.scorer
    return _load_clip(find_scorer(name), options, name)


def load_judge(located: LocatedModel, options: RunOptions, scorer: "ClipScorer") -> "ClipScorer":
    """Load the judge of a shipped model; for all other models, return the scorer."""
    if registry.shipped_folder(located.spec) is None:
        return scorer
    return _load_clip(_SHIPPED / "judge", options)


def find_scorer(name: str) -> Path:
    """
    Return the folder of a scorer.

    Args:
        name: `tiny`, the path of a folder, or a hub id.

    Raises:
        RequestError: `name` is none of these.
        ModelUnavailable: The scorer is not on this machine and cannot be downloaded.
    """
    if name == "tiny":
        return _SHIPPED / "scorer"
    folder = Path(name)
    if folder.is_dir():
        return folder
    if folder.exists() or name.count("/") != 1:
        raise RequestError(
            f"scorer `{name}` is not a folder", "give the folder of a CLIP model, or `tiny`"
        )
    return fetch(
        name, SCORER_FILES, needed=("model.safetensors",), role="scorer", hint=_SCORER_HINT
    )


def _load_clip(folder: Path, options: RunOptions, name: str | None = None) -> "ClipScorer":
    from loco_cli.sampling.clip_score import ClipScorer
    from loco_cli.sampling.pipeline import choose_device
    from loco_cli.sampling.quiet import silence_libraries

    with silence_libraries():
        return ClipScorer(folder, choose_device(options.device), name)


def _tensors(located: LocatedModel, component: str) -> dict[str, "Tensor"]:
    checkpoint = located.checkpoint
    return {
        name: read_tensor(checkpoint.slots(component, name)[0])
        for name in checkpoint.names(component)
    }
