"""The manifest, the report and the model card of an edit."""

import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from importlib.metadata import version

from loco_cli import __version__
from loco_cli.editing.deltas import SolvedEdit
from loco_cli.editing.methods import unreached_parts
from loco_cli.editing.model_edit import ModelEdit
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
    TensorEdit,
    TensorRecord,
)
from loco_cli.outputs.paths import EditOptions
from loco_cli.report.card import render_card
from loco_cli.report.html import render_edit_report


class ManifestBuilder:
    """
    A builder of the manifest, report and model card of an edit.

    Args:
        edit: The planned edit.
        options: The options of the output.
        solved: The solved edit.
        tensors: The figures of every edited tensor.
    """

    def __init__(
        self,
        edit: ModelEdit,
        options: EditOptions,
        solved: SolvedEdit,
        tensors: Sequence[TensorEdit],
    ) -> None:
        self.edit, self.options, self.solved, self.tensors = edit, options, solved, tensors
        self.started = time.monotonic()

    def manifest(self, base: Base, tensors: tuple[TensorRecord, ...]) -> Manifest:
        """Return the manifest, given the records of the base and of all changed tensors."""
        located, recipe, options = self.edit.located, self.edit.recipe, self.options
        found = [run.localization for run in self.edit.localizations]
        return Manifest(
            loco_version=__version__,
            created=options.created or _now(),
            command=options.command,
            recipe=RecipeRecord(text=recipe.text, sha256=recipe.sha256, overrides=recipe.overrides),
            model=ModelRecord(
                name=located.name,
                family=located.spec.family.name,
                revision=located.revision,
                unreachable=unreached_parts(located, recipe),
                texts=located.borrowed_from,
            ),
            base=base,
            # the time of a search is in `seconds` only, so that the stamp does not depend on it
            localizations=tuple({**one.to_json(), "seconds": 0.0} for one in found),
            preserve=tuple(name for _, name in self.solved.preserved),
            edits=self.solved.records,
            drift=self.drift,
            strength=self.edit.strength,
            tensors=tensors,
            environment=_environment(),
            seconds=Seconds() if options.created else self._seconds(),
        )

    def _seconds(self) -> Seconds:
        return Seconds(
            localize=round(sum(sweep.localization.seconds for sweep in self.edit.localizations), 3),
            solve=round(self.solved.seconds, 3),
            write=round(time.monotonic() - self.started, 3),
        )

    @property
    def preview(self) -> EditPreview:
        """The figures of the edit before it is written."""
        return EditPreview(
            edits=self.solved.records,
            drift=self.drift,
            strength=self.edit.strength,
            worst_rounded=max(self.tensors, key=lambda tensor: tensor.rounding_error),
        )

    @property
    def drift(self) -> Drift | None:
        """The drift of unrelated prompts."""
        return self.solved.changes[0].probe.mean([edit.drifts for edit in self.tensors])

    def pages(self, manifest: Manifest) -> dict[str, str | bytes]:
        """Return the files beside the weights by role: recipe, report, and the card of a folder."""
        located, recipe = self.edit.located, self.edit.recipe
        pages: dict[str, str | bytes] = {"recipe": recipe.text, "report": self._report(manifest)}
        if located.checkpoint.is_folder:
            records = self.solved.records
            pages["card"] = render_card(
                located.spec, located.name, recipe.title, records, __version__
            )
        return pages

    def _report(self, manifest: Manifest) -> str:
        localizations = self.edit.localizations
        if self.options.created:
            localizations = tuple(map(_timeless, localizations))
        return render_edit_report(
            manifest,
            title=self.edit.title,
            localizations=localizations,
            tensors=self.tensors,
            module_paths=self.edit.located.spec.module_paths,
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
        device="cpu",  # the encoder and the solver run on it; a search may use another device
        dtype="float32",
    )
