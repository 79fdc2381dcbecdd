"""The plan of a command, `loco.plan/1`: `--dry-run` prints it before any weights are loaded."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from loco_cli.concept import Concept, PromptPair
from loco_cli.records import Record


class PlannedEdit(Record):
    """
    A planned edit of one concept.

    `layers` is None if a localization has to find them, and empty for a text-encoder edit.
    `module_paths` has one path per layer, in the same order.
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
        """Return the edit of a concept; `module_paths` has the paths of all layers of the model."""
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
    """Pictures to generate: `PlannedRuns(n_pictures=272, unet_evaluations=10880)`."""

    n_pictures: int
    unet_evaluations: int

    @classmethod
    def of(cls, n_pictures: int, sampling: tuple[int, float]) -> "PlannedRuns":
        """Return the cost of pictures for (steps, guidance); guidance above 1 doubles the cost."""
        steps, guidance = sampling
        n_samples = n_pictures * steps * (2 if guidance > 1 else 1)
        return cls(n_pictures=n_pictures, unet_evaluations=n_samples)


class Plan(Record):
    """
    The plan of a command: `loco.plan/1`.

    Attributes:
        path: The path of the model, relative to the current folder.
        localize: An upper bound on the pictures that find the layers.
        strength: An upper bound on the pictures that choose the strength of the edit.
        pictures: The pictures of the result or of the evaluation.
        tensors: The names of the tensors to change.
        form: The form of the output of an edit.
        output_bytes: The size of the output.
        limits: Sentences about the paths of the prompt that the edit cannot change.
        texts: The model that lends its text encoders; None if the model has its own.
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
    """Return a path relative to the current folder, or its name if it is on another drive."""
    try:
        return Path(os.path.relpath(path)).as_posix()
    except ValueError:
        return path.name
