"""`loco localize`: find the layers, neurons or states that hold each concept."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loco_cli.checkpoint.staging import write_folder
from loco_cli.events import SILENT_EVENTS, Events
from loco_cli.layers import LayerSet
from loco_cli.localization import Localization, LocalizationRun, Localizations
from loco_cli.localizing.methods import apply_layer_options, check_settings, module_of
from loco_cli.localizing.runs import SearchContext
from loco_cli.methods import LOCALIZE_METHODS
from loco_cli.models.locate import LocatedModel, locate
from loco_cli.models.session import RunOptions
from loco_cli.models.tokenizers import check_subjects
from loco_cli.outputs.guards import check_folder
from loco_cli.plan import Plan, PlannedEdit, PlannedRuns, relative_path
from loco_cli.recipe.record import Recipe
from loco_cli.report.html import render_localization_report
from loco_cli.report.sheet import render_localization_sheet
from loco_cli.report.trace import render_trace_report, render_trace_sheet
from loco_cli.trace import Trace, TraceRun, Traces

FILES = ("localization.json", "sheet.png", "report.html")


@dataclass(frozen=True)
class LocalizeOptions:
    """
    The output and the command's own settings: `LocalizeOptions(Path("found"), layers=(8, 9))`.

    If `layers` is set, these layers are scored and no search takes place; it may be a `range`.
    `neurons` is the number of channels per projection. `batch_size` is None if it is not known yet.
    """

    output: Path | None = None
    force: bool = False
    command: Sequence[str] = ()
    layers: Sequence[int] | None = None
    neurons: int | None = None
    batch_size: int | None = None


@dataclass(frozen=True)
class LocalizePlan:
    """
    A checked localization: the recipe with the settings of the command, and any given layers.

    `localize` is an upper bound on the images of the search, `pictures` on the images generated
    afterwards. Each is None if there are no such images.
    """

    located: LocatedModel
    recipe: Recipe
    options: LocalizeOptions
    layers_of: tuple[LayerSet, ...] | None
    localize: PlannedRuns | None
    pictures: PlannedRuns | None

    @property
    def finds_states(self) -> bool:
        """True if the result is a trace of states, and not a localization of layers."""
        return LOCALIZE_METHODS[self.recipe.localize.method].finds == "states"

    def document(self) -> Plan:
        """Return the plan that `--dry-run` prints."""
        located, entries = self.located, self.recipe.edits
        layers_of = self.layers_of or (None,) * len(entries)
        return Plan(
            command="localize",
            model=located.name,
            family=located.spec.family.name,
            path=relative_path(located.path),
            edits=tuple(
                PlannedEdit.of(
                    entry.concept, entry.localize_pairs, layers, located.spec.module_paths
                )
                for entry, layers in zip(entries, layers_of, strict=True)
            ),
            method=self.recipe.localize.method,
            localize=self.localize,
            pictures=self.pictures,
            output=self.options.output and relative_path(self.options.output),
        )


@dataclass(frozen=True)
class LocalizeResult:
    """The localizations or traces of a recipe, and the paths of the written files."""

    localizations: tuple[Localization, ...] = ()
    traces: tuple[Trace, ...] = ()
    files: tuple[Path, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the document of the only concept, or one document of all concepts."""
        found = self.localizations or self.traces
        if len(found) == 1:
            return found[0].to_json()
        if self.traces:
            return Traces(traces=self.traces).to_json()
        return Localizations(localizations=self.localizations).to_json()


def plan(recipe: Recipe, options: LocalizeOptions = LocalizeOptions()) -> LocalizePlan:
    """
    Return the plan of a localization, after all checks that need no model in memory.

    Args:
        recipe: The concepts, the model and the settings.
        options: The output and the command's own settings.

    Raises:
        RequestError: A setting does not fit the model, a subject is cut off, or the output exists.
        CheckpointError: The model is damaged.
        ModelUnavailable: The model is not on this machine and cannot be downloaded.
    """
    located, method = locate(recipe.model), module_of(recipe.localize)
    recipe, layers_of = apply_layer_options(located, recipe, options.layers, options.neurons)
    method.check(located, recipe, layers_of)
    check_settings(recipe.localize, layers_of)
    check_subjects(located, [pair for entry in recipe.edits for pair in entry.localize_pairs])
    if options.output:
        check_folder(options.output, FILES, located.checkpoint, force=options.force)
    costs = method.cost(located, recipe, layers_of, batch_size=options.batch_size)
    return LocalizePlan(located, recipe, options, layers_of, *costs)


def run(plan: LocalizePlan, machine: RunOptions, events: Events = SILENT_EVENTS) -> LocalizeResult:
    """
    Execute the plan of a localization, and write the result if the plan has an output.

    Args:
        plan: A checked localization.
        machine: Device, dtype, batch size, scorer, cache and the team of processes.
        events: Receives progress and findings.

    Raises:
        RequestError: The method cannot be shared between several processes.
        MachineError: The output cannot be written, or the device runs out of memory.
    """
    finds, team = LOCALIZE_METHODS[plan.recipe.localize.method].finds, machine.team
    if finds != "layers":
        team.require_single_process("causal tracing" if finds == "states" else "the neuron search")
    context = SearchContext.load(plan.located, machine, events)
    runs = module_of(plan.recipe.localize).run(context, plan.recipe, plan.layers_of)
    result = LocalizeResult(
        localizations=tuple(run.localization for run in runs if isinstance(run, LocalizationRun)),
        traces=tuple(run.trace for run in runs if isinstance(run, TraceRun)),
    )
    output, command = plan.options.output, plan.options.command
    if output and team.is_first:
        document = json.dumps(result.to_json(), indent=2) + "\n"
        if result.traces:
            sheet, report = render_trace_sheet(runs), render_trace_report(runs, command=command)
        else:
            sheet = render_localization_sheet(runs)
            report = render_localization_report(runs, command=command)
        pages = (document, sheet, report)
        result = replace(result, files=write_folder(output, dict(zip(FILES, pages, strict=True))))
    team.leave()
    return result
