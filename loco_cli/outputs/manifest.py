"""All that is said of an edit: its manifest, its report, its model card."""

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import version

from loco_cli import __version__
from loco_cli.editing.deltas import Solved
from loco_cli.editing.methods import unreached
from loco_cli.events import EditPreview
from loco_cli.localization import LocalizationRun
from loco_cli.manifest import (
    Base,
    Drift,
    Environment,
    Manifest,
    ModelRecord,
    RecipeRecord,
    Seconds,
    Strength,
    TensorEdit,
    TensorRecord,
)
from loco_cli.models.locate import LocatedModel
from loco_cli.outputs.paths import EditOptions, OutputPaths
from loco_cli.recipe import Recipe
from loco_cli.report.card import render_card
from loco_cli.report.html import render_edit_report


@dataclass(frozen=True)
class Job:
    """
    An edit with nothing left open: of what, how it is to be written, what chose layers and ridge.
    """

    located: LocatedModel
    recipe: Recipe
    options: EditOptions
    sweeps: tuple[LocalizationRun, ...]
    strength: Strength | None = None

    @property
    def paths(self) -> OutputPaths:
        """The names of everything that will be written."""
        return self.options.paths(self.located, self.recipe)

    @property
    def title(self) -> str:
        """What the edit does, in a few words."""
        return self.recipe.title or self.recipe.name


class ManifestBuilder:
    """What the manifest, the card and the report say of an edit that is being written."""

    def __init__(self, job: Job, solved: Solved, edits: Sequence[TensorEdit]) -> None:
        self.job, self.solved, self.edits = job, solved, edits
        self.started = time.monotonic()

    def manifest(self, base: Base, tensors: tuple[TensorRecord, ...]) -> Manifest:
        """Return the manifest from what only the writer knows: the hashes before and after."""
        located, recipe, options = self.job.located, self.job.recipe, self.job.options
        found = [sweep.localization for sweep in self.job.sweeps]
        return Manifest(
            loco_version=__version__,
            created=options.created or _now(),
            command=options.command,
            recipe=RecipeRecord(text=recipe.text, sha256=recipe.sha256, overrides=recipe.overrides),
            model=ModelRecord(
                name=located.name,
                family=located.spec.family.name,
                revision=located.revision,
                unreachable=unreached(located, recipe),
                texts=located.borrowed,
            ),
            base=base,
            # how long a search took is under `seconds`: the stamp is the same whatever the machine
            localizations=tuple({**one.to_json(), "seconds": 0.0} for one in found),
            preserve=tuple(name for _, name in self.solved.preserved),
            edits=self.solved.records,
            drift=self.drift,
            strength=self.job.strength,
            tensors=tensors,
            environment=_environment(),
            seconds=Seconds() if options.created else self._seconds(),
        )

    def _seconds(self) -> Seconds:
        return Seconds(
            localize=round(sum(sweep.localization.seconds for sweep in self.job.sweeps), 3),
            solve=round(self.solved.seconds, 3),
            write=round(time.monotonic() - self.started, 3),
        )

    @property
    def preview(self) -> EditPreview:
        """What is known of the edit before it is written."""
        return EditPreview(
            edits=self.solved.records,
            drift=self.drift,
            strength=self.job.strength,
            worst_rounded=max(self.edits, key=lambda edit: edit.rounding_error),
        )

    @property
    def drift(self) -> Drift | None:
        """How far prompts move that the edit is to leave alone."""
        return self.solved.changes[0].probe.mean([edit.drifts for edit in self.edits])

    def pages(self, manifest: Manifest) -> dict[str, str | bytes]:
        """Return what lies beside the weights, by role: recipe, report, and a folder's card."""
        located, recipe = self.job.located, self.job.recipe
        pages: dict[str, str | bytes] = {"recipe": recipe.text, "report": self._report(manifest)}
        if located.checkpoint.is_folder:
            records = self.solved.records
            pages["card"] = render_card(
                located.spec, located.name, recipe.title, records, __version__
            )
        return pages

    def _report(self, manifest: Manifest) -> str:
        located, recipe, options = self.job.located, self.job.recipe, self.job.options
        sweeps = self.job.sweeps
        return render_edit_report(
            title=self.job.title,
            model=located.name,
            edits=self.solved.records,
            localizations=list(map(_timeless, sweeps)) if options.created else sweeps,
            tensors=self.edits,
            preserved=[name for _, name in self.solved.preserved],
            drift=self.drift,
            strength=self.job.strength,
            recipe=recipe.text,
            command=options.command,
            module_paths=located.spec.module_paths,
            manifest=manifest,
        )


def _timeless(sweep: LocalizationRun) -> LocalizationRun:
    localization = sweep.localization.model_copy(update={"seconds": 0.0})
    return replace(sweep, localization=localization)


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _environment() -> Environment:
    return Environment(
        python=platform.python_version(),
        torch=version("torch"),
        diffusers=version("diffusers"),
        transformers=version("transformers"),
        device="cpu",  # encoder and solve; pictures may have been made elsewhere
        dtype="float32",
    )
