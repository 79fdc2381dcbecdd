"""
Where models run and with what they are scored: the options of a command, and what they load.

diffusers and transformers are imported when something is loaded: an edit whose layers are named
needs neither.
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
    How to run a model: `RunOptions(device="cpu", batch_size=8)`.

    With `is_cached` finished runs are kept, and those that were kept are not made again. The
    processes of a `team` share the runs of a localization.
    """

    device: str = "auto"
    dtype: str = "auto"
    batch_size: int | str = "auto"
    scorer: str | None = None
    is_cached: bool = True
    team: Team = field(default_factory=Team)


def load_model(
    located: LocatedModel, machine: RunOptions, events: Events = SILENT_EVENTS
) -> "Pipeline":
    """Return the running pipeline of a located model."""
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
        device=machine.device,
        dtype=machine.dtype,
    )
    events.progress(stage, 1, 1)
    return pipeline


def load_scorer(located: LocatedModel, machine: RunOptions) -> "ClipScorer":
    """Return the scorer that the user named, else the one that the model names."""
    name = machine.scorer or located.spec.scorer
    return _load_clip(find_scorer(name), machine, name)


def load_judge(located: LocatedModel, machine: RunOptions, scorer: "ClipScorer") -> "ClipScorer":
    """Return the judge: a model of its own for those that ship, else the scorer."""
    if registry.shipped_folder(located.spec) is None:
        return scorer
    return _load_clip(_SHIPPED / "judge", machine)


def find_scorer(name: str) -> Path:
    """Return the folder of a scorer: `tiny`, a path, or a hub id."""
    if name == "tiny":
        return _SHIPPED / "scorer"
    folder = Path(name)
    if folder.is_dir():
        return folder
    if folder.exists() or name.count("/") != 1:
        raise RequestError(
            f"scorer `{name}` is no folder", "give the folder of a CLIP model, or `tiny`"
        )
    return fetch(
        name, SCORER_FILES, needed=("model.safetensors",), what="scorer", hint=_SCORER_HINT
    )


def _load_clip(folder: Path, machine: RunOptions, name: str | None = None) -> "ClipScorer":
    from loco_cli.sampling.clip_score import ClipScorer
    from loco_cli.sampling.pipeline import choose_device
    from loco_cli.sampling.quiet import silence_libraries

    with silence_libraries():
        return ClipScorer(folder, choose_device(machine.device), name)


def _tensors(located: LocatedModel, component: str) -> dict[str, "Tensor"]:
    checkpoint = located.checkpoint
    return {
        name: read_tensor(checkpoint.slots(component, name)[0])
        for name in checkpoint.names(component)
    }
