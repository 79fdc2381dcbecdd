"""Causal tracing of every concept of a recipe: plan the runs, draw, score, write down."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loco_cli.checkpoint.staging import write_folder
from loco_cli.commands.plans import LOCALIZE_FILES
from loco_cli.events import SILENT, Events
from loco_cli.families import registry
from loco_cli.localizing.methods import module_of
from loco_cli.localizing.runs import SearchContext
from loco_cli.models.locate import locate
from loco_cli.models.session import RunOptions
from loco_cli.models.tokenizers import check_subjects
from loco_cli.outputs.guards import check_folder
from loco_cli.recipe import Recipe
from loco_cli.report.trace import render_trace_report, render_trace_sheet, state_words
from loco_cli.trace import Trace, Traces

ENOUGH = 0.5  # a share of what the noise takes under which no state is named the concept's


@dataclass(frozen=True)
class TraceResult:
    """The traces of a recipe, and the files that were written."""

    traces: tuple[Trace, ...]
    files: tuple[Path, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the document: that of the only trace, or of all."""
        if len(self.traces) == 1:
            return self.traces[0].to_json()
        return Traces(traces=self.traces).to_json()


def run(
    recipe: Recipe,
    machine: RunOptions,
    output: Path | None = None,
    *,
    force: bool = False,
    command: Sequence[str] = (),
    events: Events = SILENT,
) -> TraceResult:
    """Return the traces of a recipe; with `output` write them, sheet and report there."""
    machine.team.check_alone("causal tracing")
    located = locate(recipe.model)
    method = module_of(recipe.localize)
    method.check(located, recipe)
    check_subjects(located, (pair for entry in recipe.edits for pair in entry.localize_pairs))
    if output:
        check_folder(output, LOCALIZE_FILES, located.checkpoint, force=force)
    traced = method.run(SearchContext.load(located, machine, events), recipe)
    found = TraceResult(tuple(one.trace for one in traced))
    if not output:
        return found
    document = json.dumps(found.to_json(), indent=2) + "\n"
    pages = (document, render_trace_sheet(traced), render_trace_report(traced, command=command))
    files = write_folder(output, dict(zip(LOCALIZE_FILES, pages, strict=True)))
    return TraceResult(found.traces, files)


def conclusion(found: Trace) -> tuple[str, ...]:
    """Return what a trace says, in sentences; one that found nothing says so."""
    span = f"{found.clean_score:.3f} to {found.corrupted_score:.3f}"
    if not found.is_harmed:
        return (
            f"noise on the subject hardly changes the score ({span}): raise `--noise`, or the "
            "model, or the scorer, does not know this concept",
        )
    best = found.best()
    share = found.share(best) or 0.0
    gives = f"gives back {share:.0%} of what the noise takes ({span})"
    details = (f"it is {best.component} {best.module_path}", *_among_cross_attentions(found))
    if share < ENOUGH:
        first = f"no single state holds the concept: the best, {state_words(best)}, {gives}"
        return (first, *details)
    return (f"{state_words(best)} {gives}", *details)


def _among_cross_attentions(found: Trace) -> tuple[str, ...]:
    """Return which of the UNet's cross-attentions, where an edit is made, restores most."""
    crossed = [one for one in found.ranked() if one.kind == "cross-attention"]
    # a resnet hands on the whole stream, so do residual attentions: some restore by themselves
    if not crossed or registry.family(found.model.family).has_residual_attention:
        return ()
    best = crossed[0]
    return (
        f"of the cross-attentions, where edits are made, layer {best.index} gives back most: "
        f"{found.share(best) or 0.0:.0%}, {best.module_path}",
    )
