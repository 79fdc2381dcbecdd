"""Write a solved edit with all that is said of it: manifest, report, model card."""

import platform
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version

from loco_cli import __version__
from loco_cli.checkpoint.edits import EditedTensor
from loco_cli.manifest import (
    Environment,
    Manifest,
    ModelRecord,
    RecipeRecord,
    Seconds,
    TensorRecord,
)
from loco_cli.recipe import Recipe
from loco_cli.report.card import render_card
from loco_cli.report.html import render_edit_report
from loco_cli.report.pictures import Swept
from loco_cli.workflows.checks import EditOptions
from loco_cli.workflows.locate import Located
from loco_cli.workflows.solve import NewWeight, Solved
from loco_cli.workflows.write import BaseFacts, WrittenEdit, write_edit


def write_record(
    located: Located,
    recipe: Recipe,
    options: EditOptions,
    sweeps: tuple[Swept, ...],
    solved: Solved,
    weights: Sequence[NewWeight],
) -> WrittenEdit:
    """Return the edit, written whole: weights, undo file, recipe, report, card, manifest."""
    record = _Record(located, recipe, options, sweeps, solved, weights)
    extra: dict[str, str | bytes] = {"recipe": recipe.text, "report": record.report()}
    if located.checkpoint.is_folder:
        extra["card"] = render_card(
            located.spec, located.name, recipe.title, solved.records, __version__
        )
    return write_edit(
        located.checkpoint,
        options.paths(located, recipe).root,
        {weight.slot: weight.content for weight in weights},
        record.manifest,
        extra,
        stamp=options.stamp,
        force=options.force,
    )


class _Record:
    """What the manifest, the card and the report say of an edit that is being written."""

    def __init__(
        self,
        located: Located,
        recipe: Recipe,
        options: EditOptions,
        sweeps: tuple[Swept, ...],
        solved: Solved,
        weights: Sequence[NewWeight],
    ) -> None:
        self.located, self.recipe, self.options = located, recipe, options
        self.sweeps, self.solved, self.weights = sweeps, solved, weights
        self.found = tuple(sweep.localization for sweep in sweeps)
        self.weight_of = {(weight.slot.file, weight.slot.tensor): weight for weight in weights}
        self.started = time.monotonic()

    def manifest(self, facts: BaseFacts) -> Manifest:
        """Return the manifest, once the writer knows what only it can know."""
        recipe = self.recipe
        return Manifest(
            loco_version=__version__,
            created=self.options.created or _now(),
            command=self.options.command,
            recipe=RecipeRecord(text=recipe.text, sha256=recipe.sha256, overrides=recipe.overrides),
            model=ModelRecord(
                name=self.located.name,
                family=self.located.spec.family,
                revision=self.located.revision,
            ),
            base=facts.base,
            localizations=tuple(one.to_json() for one in self.found),
            preserve=tuple(name for _, name in self.solved.preserved),
            edits=self.solved.records,
            tensors=tuple(map(self._tensor, facts.tensors)),
            environment=_environment(),
            seconds=Seconds(
                localize=round(sum(one.seconds for one in self.found), 3),
                solve=round(self.solved.seconds, 3),
                write=round(time.monotonic() - self.started, 3),
            ),
        )

    def report(self) -> str:
        """Return the page of the edit."""
        return render_edit_report(
            title=self.recipe.title or self.recipe.name,
            model=self.located.name,
            edits=self.solved.records,
            localizations=self.sweeps,
            tensors=[
                (w.slot.key, w.rank, w.relative_change, w.rounding_error) for w in self.weights
            ],
            preserved=[name for _, name in self.solved.preserved],
            recipe=self.recipe.text,
            command=self.options.command,
            module_paths=self.located.spec.module_paths,
        )

    def _tensor(self, tensor: EditedTensor) -> TensorRecord:
        weight = self.weight_of[tensor.file, tensor.name]
        return TensorRecord(
            name=tensor.name,
            file=tensor.file,
            shape=tensor.shape,
            dtype=tensor.dtype,
            sha256_before=tensor.sha256_before,
            sha256_after=tensor.sha256_after,
            rank=weight.rank,
            relative_change=weight.relative_change,
            rounding_error=weight.rounding_error,
        )


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
