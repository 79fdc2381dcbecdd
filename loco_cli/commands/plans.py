"""
What a localization would do, checked and priced from headers alone: nothing here loads a model.

It raises what the command itself would raise before its first picture.
"""

from collections.abc import Sequence
from pathlib import Path

from loco_cli.localizing.methods import check_settings, module_of, with_named
from loco_cli.models.locate import locate
from loco_cli.models.tokenizers import check_subjects
from loco_cli.outputs.guards import check_folder
from loco_cli.plan import Plan, PlannedEdit, relative_path
from loco_cli.recipe import Recipe

LOCALIZE_FILES = ("localization.json", "sheet.png", "report.html")


def localize(
    recipe: Recipe,
    output: Path | None = None,
    *,
    layers: Sequence[int] | None = None,
    neurons: int | None = None,
    force: bool = False,
    batch_size: int | None = None,
) -> Plan:
    """Return what a localization would do; the cost of a trace depends on the batch size."""
    located, method = locate(recipe.model), module_of(recipe.localize)
    recipe, layers_of = with_named(located, recipe, layers, neurons)
    method.check(located, recipe, layers_of)
    check_settings(recipe.localize, layers_of)
    check_subjects(located, (pair for entry in recipe.edits for pair in entry.localize_pairs))
    if output:
        check_folder(output, LOCALIZE_FILES, located.checkpoint, force=force)
    searched, made = method.cost(located, recipe, layers_of, batch_size=batch_size)
    return Plan(
        command="localize",
        model=located.name,
        family=located.spec.family.name,
        path=relative_path(located.path),
        edits=tuple(
            PlannedEdit.of(entry.concept, entry.localize_pairs, layers, located.spec.module_paths)
            for entry, layers in zip(
                recipe.edits, layers_of or (None,) * len(recipe.edits), strict=True
            )
        ),
        method=recipe.localize.method,
        localize=searched,
        pictures=made,
        output=output and relative_path(output),
    )
