"""The plan of a command as `loco.plan/1`: printed by `--dry-run`, before anything is loaded."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from loco_cli.concept import Concept, PromptPair
from loco_cli.records import Record


class PlannedEdit(Record):
    """
    One edit and where it will be made: `layers` is None where a localization has to find them, and
    empty where the edit is one of the text encoder.

    `module_paths` stand beside the layers, in the same order.
    """

    kind: str
    subject: str
    to: str
    layers: tuple[int, ...] | None
    module_paths: tuple[str, ...] = ()
    source: tuple[str, ...]
    target: tuple[str, ...]

    @classmethod
    def of(
        cls,
        concept: Concept,
        pairs: Sequence[PromptPair],
        layers: Sequence[int] | None,
        module_paths: Sequence[str],
    ) -> "PlannedEdit":
        """Return the edit of a concept; `module_paths` are those of all layers of the model."""
        return cls(
            kind=concept.kind,
            subject=concept.subject,
            to=concept.to,
            layers=None if layers is None else tuple(layers),
            module_paths=tuple(module_paths[layer] for layer in layers or ()),
            source=tuple(pair.source for pair in pairs),
            target=tuple(pair.target for pair in pairs),
        )


class PlannedRuns(Record):
    """Pictures to be made: `PlannedRuns(n_pictures=272, unet_evaluations=10880)`."""

    n_pictures: int
    unet_evaluations: int

    @classmethod
    def of(cls, n_pictures: int, sampling: tuple[int, float]) -> "PlannedRuns":
        """Return the price of pictures at so many steps and that guidance, which doubles it."""
        steps, guidance = sampling
        n_samples = n_pictures * steps * (2 if guidance > 1 else 1)
        return cls(n_pictures=n_pictures, unet_evaluations=n_samples)


class Plan(Record):
    """
    A command's plan: model, edits, pictures to make, tensors to change, files to write.

    `localize` are the pictures that find the layers, at most, `strength` those that choose how
    strong the edit is, at most; `pictures` those that are the result or are judged. `path` is
    relative to where the command runs. `form` is that of an edit's output; `limits` are sentences
    on what the edit of this model cannot reach; `texts` is the model whose text encoders an edit
    reads prompts with, None if it is the model itself.
    """

    schema_: Literal["loco.plan/1"] = Field("loco.plan/1", alias="schema")
    command: str
    model: str
    family: str
    path: str
    edits: tuple[PlannedEdit, ...] = ()
    method: str
    localize: PlannedRuns | None = None
    pictures: PlannedRuns | None = None
    strength: PlannedRuns | None = None
    tensors: tuple[str, ...] = ()
    form: Literal["checkpoint", "lora"] | None = None
    output: str | None = None
    output_bytes: int | None = None
    limits: tuple[str, ...] = ()
    texts: str | None = None


def relative_path(path: Path) -> str:
    """Return a path from where the command runs; of another drive of Windows its last part."""
    try:
        return Path(os.path.relpath(path)).as_posix()
    except ValueError:
        return path.name
