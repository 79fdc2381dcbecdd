"""What was found, as the sheet and the report that are written beside its document."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loco_cli.localization import LocalizationRun
from loco_cli.manifest import Manifest, Strength
from loco_cli.recipe import Recipe
from loco_cli.report.html import render_evaluation_report, render_localization_report
from loco_cli.report.sheet import (
    evaluation_rows,
    figures_line,
    localization_rows,
    render_sheet,
)

if TYPE_CHECKING:
    from loco_cli.evaluating.judge import Judged


def localization_sheet(sweeps: Sequence[LocalizationRun]) -> bytes:
    """Return the windows of every concept as one PNG."""
    first = sweeps[0].localization
    concepts = ", ".join(
        f"{one.localization.concept.kind} {one.localization.concept.subject}" for one in sweeps
    )
    rows = [row for one in sweeps for row in localization_rows(one)]
    return render_sheet(f"{concepts} in {first.model.name}", rows)


def localization_report(sweeps: Sequence[LocalizationRun], command: Sequence[str]) -> str:
    """Return the windows of every concept as a page."""
    return render_localization_report(sweeps, command=command)


def evaluation_sheet(judged: "Judged") -> bytes:
    """Return every prompt before and after as one PNG."""
    evaluation = judged.evaluation
    return render_sheet(figures_line(evaluation), evaluation_rows(evaluation, judged.pictures))


def evaluation_report(
    judged: "Judged",
    recipe: Recipe,
    command: Sequence[str],
    strength: Strength | None = None,
    manifest: Manifest | None = None,
) -> str:
    """Return every prompt before and after as a page, with what is known of the edit."""
    return render_evaluation_report(
        judged.evaluation,
        judged.pictures,
        title=recipe.title or recipe.name,
        recipe=recipe.text,
        command=command,
        strength=strength,
        manifest=manifest,
    )
