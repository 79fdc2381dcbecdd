"""Where models run and with what they are scored: the options of a command, and what they load."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from loco_cli.concept import PromptPair
from loco_cli.errors import CheckpointError, RequestError
from loco_cli.metrics.clip_score import ClipScorer
from loco_cli.models import registry
from loco_cli.runtime.encode import check_fits, load_tokenizer
from loco_cli.runtime.pipeline import (
    PARTS,
    Pipeline,
    choose_device,
    hushed,
    load_pipeline,
)
from loco_cli.runtime.sample import Tick
from loco_cli.workflows.hub import SCORER_FILES, fetch
from loco_cli.workflows.locate import Located
from loco_cli.workflows.progress import Notify, Progress, silent

_SHIPPED = Path(__file__).parents[1] / "tiny" / "weights"
_SCORER_HINT = "point to the folder of a CLIP model with `--scorer PATH`"


@dataclass(frozen=True)
class Machine:
    """How to run a model: `Machine(device="cpu", batch_size=8)`."""

    device: str = "auto"
    dtype: str = "auto"
    batch_size: int | str = "auto"
    scorer: str | None = None


def load_model(located: Located, machine: Machine, notify: Notify = silent) -> Pipeline:
    """Return the running pipeline of a located model."""
    stage = f"loading {located.name}"
    notify(Progress(stage, 0, 1))
    _check_parts(located)
    pipeline = load_pipeline(
        located.path,
        located.spec,
        config=located.config,
        holds=located.checkpoint.holds,
        device=machine.device,
        dtype=machine.dtype,
    )
    notify(Progress(stage, 1, 1))
    return pipeline


def load_scorer(located: Located, machine: Machine) -> ClipScorer:
    """Return the scorer that the user named, else the one that the model names."""
    name = machine.scorer or located.spec.scorer
    with hushed():
        return ClipScorer(find_scorer(name), choose_device(machine.device), name)


def load_judge(located: Located, machine: Machine, scorer: ClipScorer) -> ClipScorer:
    """Return the judge: a model of its own for those that ship, else the scorer."""
    if registry.shipped_folder(located.spec) is None:
        return scorer
    with hushed():
        return ClipScorer(_SHIPPED / "judge", choose_device(machine.device))


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
    return fetch(name, SCORER_FILES, needed="model.safetensors", what="scorer", hint=_SCORER_HINT)


def check_subjects(located: Located, pairs: Iterable[PromptPair]) -> None:
    """Raise ConceptError where the tokenizer cuts off a subject, or the end of a target prompt."""
    tokenizer = load_tokenizer(located.config / "tokenizer")
    for pair in pairs:
        check_fits(tokenizer, pair.source, pair.subject)
        check_fits(tokenizer, pair.target, pair.target)


def ticking(notify: Notify, stage: str, total: int) -> Tick:
    """Return a callback that adds up steps and tells of the sum."""
    done = 0

    def tick(n_steps: int) -> None:
        nonlocal done
        done += n_steps
        notify(Progress(stage, done, total))

    notify(Progress(stage, 0, total))
    return tick


def _check_parts(located: Located) -> None:
    missing = [part for part in PARTS if part not in located.checkpoint.components]
    if missing:
        raise CheckpointError(
            f"`{located.path}` has no {', no '.join(missing)}, so it makes no pictures",
            "give the whole checkpoint",
        )
