"""
What a localization would do, checked and priced from headers alone: nothing here loads a model.

It raises what the command itself would raise before its first picture.
"""

from pathlib import Path

from loco_cli.editing.methods import named_layers
from loco_cli.localizing.checks import (
    check_find_neurons,
    check_localize,
    check_unused,
    scored_layers,
)
from loco_cli.localizing.cost import price, price_of_listing
from loco_cli.localizing.states import check_trace, price_of
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
    force: bool = False,
    batch_size: int | None = None,
) -> Plan:
    """Return what a localization would do; a trace's price depends on the batch size."""
    located = locate(recipe.model)
    is_trace = recipe.localize.method == "causal-trace"
    is_listing = recipe.localize.method == "neurons"
    if is_trace:
        check_trace(located, recipe.localize)
    elif is_listing:
        check_find_neurons(located, recipe)
    else:
        check_localize(located, recipe.localize)
    if not is_listing:
        check_unused(recipe)
    check_subjects(located, (pair for entry in recipe.edits for pair in entry.localize_pairs))
    if output:
        check_folder(output, LOCALIZE_FILES, located.checkpoint, force=force)
    layers_of = named_layers(located, recipe) if is_listing else scored_layers(located, recipe)
    searching = price_of(located, recipe, batch_size) if is_trace else price(located, recipe)
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
        localize=None if is_listing and layers_of else searching,
        pictures=price_of_listing(located, recipe) if is_listing else None,
        output=output and relative_path(output),
    )
