"""
What each command would do, checked and priced from headers alone: nothing here loads a model.

Each function raises what the command itself would raise before its first picture.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from loco_cli.checkpoint.lora import Lora, is_lora, open_lora
from loco_cli.checkpoint.staging import size_in_words
from loco_cli.commands.edit import check_edit
from loco_cli.concept import PromptPair
from loco_cli.editing.methods import edited_tensors, named_layers, unreached
from loco_cli.errors import RequestError
from loco_cli.evaluating.choice import check_solve
from loco_cli.evaluating.questions import questions
from loco_cli.evaluating.strength import price_of_strength
from loco_cli.localizing.checks import (
    check_find_neurons,
    check_localize,
    check_unused,
    scored_layers,
)
from loco_cli.localizing.cost import price, price_of_listing
from loco_cli.localizing.states import check_trace, price_of
from loco_cli.models.locate import LocatedModel, check_steps, locate
from loco_cli.models.tokenizers import check_subjects
from loco_cli.outputs.base import check_made_from
from loco_cli.outputs.guards import check_file, check_folder
from loco_cli.outputs.paths import EditOptions, needed_bytes
from loco_cli.plan import Plan, PlannedEdit, PlannedRuns
from loco_cli.recipe import EditEntry, Recipe
from loco_cli.report.sentences import place_words

RESULT_FILES = ("sheet.png", "report.html")  # beside the document of `localize` and `evaluate`
LOCALIZE_FILES = ("localization.json", *RESULT_FILES)
EVALUATE_FILES = ("evaluation.json", *RESULT_FILES)


@dataclass(frozen=True)
class PictureRequest:
    """What to draw: `PictureRequest(("a cat",), seeds=(0, 1), model="tiny")`."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    model: str
    steps: int | None = None
    guidance: float | None = None


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
        path=_relative(located.path),
        edits=tuple(
            _planned(entry, entry.localize_pairs, layers, located.spec.module_paths)
            for entry, layers in zip(
                recipe.edits, layers_of or (None,) * len(recipe.edits), strict=True
            )
        ),
        method=recipe.localize.method,
        localize=None if is_listing and layers_of else searching,
        pictures=price_of_listing(located, recipe) if is_listing else None,
        output=_named(output),
    )


def edit(recipe: Recipe, options: EditOptions) -> Plan:
    """Return what an edit would do."""
    located = locate(recipe.model)
    check_edit(located, recipe, options)
    check_subjects(located, (pair for entry in recipe.edits for pair in entry.edit_pairs))
    layers_of = named_layers(located, recipe)
    return Plan(
        command="edit",
        model=located.name,
        family=located.spec.family.name,
        path=_relative(located.path),
        edits=_planned_edits(located, recipe),
        method=recipe.edit.method,
        localize=None if layers_of else price(located, recipe, may_scatter=True),
        strength=price_of_strength(located, recipe),
        tensors=tuple(name for _, name in edited_tensors(located, recipe, layers_of or ())),
        form=options.form,
        output=_relative(options.paths(located, recipe).root),
        # how long the factors of a LoRA are is known when the edit is solved
        output_bytes=needed_bytes(located.checkpoint, 0) if options.form == "checkpoint" else None,
        limits=unreached(located, recipe),
        texts=located.borrowed,
    )


def evaluate(
    recipe: Recipe, edited: str | None = None, output: Path | None = None, *, force: bool = False
) -> Plan:
    """Return what an evaluation would do; without `edited` the edit has to be made as well."""
    located = locate(recipe.model)
    check_evaluate(located, recipe, edited, output, force=force)
    check_subjects(located, (pair for entry in recipe.edits for pair in entry.edit_pairs))
    settings = recipe.evaluate
    n_pictures = 2 * len(questions(located.spec, recipe)) * settings.seeds
    is_sought = edited is None and named_layers(located, recipe) is None
    return Plan(
        command="evaluate",
        model=located.name,
        family=located.spec.family.name,
        path=_relative(located.path),
        edits=_planned_edits(located, recipe) if edited is None else (),
        method=recipe.edit.method,
        localize=price(located, recipe, may_scatter=True) if is_sought else None,
        strength=price_of_strength(located, recipe) if edited is None else None,
        pictures=PlannedRuns.of(
            n_pictures, located.spec.sampling(settings.steps, settings.guidance)
        ),
        output=_named(output),
    )


def check_evaluate(
    located: LocatedModel, recipe: Recipe, edited: str | None, output: Path | None, *, force: bool
) -> LocatedModel | Lora | None:
    """Return the checkpoint or LoRA that is named; raise where nothing can be evaluated."""
    check_steps(recipe.evaluate.steps)
    if output:
        check_folder(output, EVALUATE_FILES, located.checkpoint, force=force)
    if edited is None:
        check_solve(located, recipe)
        return None
    file = Path(edited)
    if file.suffix == ".safetensors" and file.is_file() and is_lora(file):
        found = open_lora(file, located.checkpoint)
        check_made_from(file, located.checkpoint)
        return found
    other = locate(edited)
    if output:
        check_folder(output, EVALUATE_FILES, other.checkpoint, force=force)
    if (other.spec.layers, other.spec.d_text) != (located.spec.layers, located.spec.d_text):
        raise RequestError(
            f"`{edited}` is no edit of `{located.name}`: their layers have other shapes",
            "give the base that it was made from with `--base`",
        )
    return other


def generate(request: PictureRequest, output: Path | None = None, *, force: bool = False) -> Plan:
    """Return what pictures would be made."""
    check_steps(request.steps)
    if request.guidance is not None and not math.isfinite(request.guidance):
        raise RequestError(f"guidance `{request.guidance}` is no finite number")
    if output and output.suffix.lower() != ".png":
        raise RequestError(f"the output `{output}` is no `.png`, which pictures are written as")
    located = locate(request.model)
    if output:
        check_file(output, located.checkpoint, force=force)
    return Plan(
        command="generate",
        model=located.name,
        family=located.spec.family.name,
        path=_relative(located.path),
        method="sample",
        pictures=PlannedRuns.of(
            len(request.prompts) * len(request.seeds),
            located.spec.sampling(request.steps, request.guidance),
        ),
        output=_named(output),
    )


def in_words(plan: Plan) -> tuple[str, ...]:
    """Return the lines that a terminal shows of a plan."""
    sought = "states" if plan.method == "causal-trace" else "layers"
    lines = [f"{plan.command} with {plan.model} ({plan.family}) at {plan.path}"]
    for edit in plan.edits:
        where = f"{sought} to be found" if edit.layers is None else place_words(edit.layers)
        lines.append(f"  {edit.kind} `{edit.subject}` → `{edit.to or 'nothing'}`, {where}")
        lines += [f"    {a!r} → {b!r}" for a, b in zip(edit.source, edit.target, strict=True)]
    if plan.localize:
        verb = "find" if any(edit.layers is None for edit in plan.edits) else "score"
        lines.append(f"  {verb} the {sought}: at most {price_in_words(plan.localize)}")
    if plan.strength:
        lines.append(f"  choose the strength: at most {price_in_words(plan.strength)}")
    if plan.pictures:
        lines.append(f"  make pictures: {price_in_words(plan.pictures)}")
    lines += [f"  change {name}" for name in plan.tensors]
    if plan.output:
        size = f" ({size_in_words(plan.output_bytes)})" if plan.output_bytes else ""
        what = " as a LoRA" if plan.form == "lora" else ""
        lines.append(f"  write {plan.output}{size}{what}")
    return (*lines, *(f"  not reached: {limit}" for limit in plan.limits))


def borrowing(plan: Plan) -> tuple[str, ...]:
    """Return a sentence where an edit reads its prompts with the encoders of another model."""
    if plan.texts is None:
        return ()
    return (
        f"`{plan.model}` has not all of its text encoders: prompts are read with those of "
        f"`{plan.texts}`, and the edit is made for those",
    )


def beforehand(plan: Plan) -> tuple[str, ...]:
    """Return a sentence for what has to be found before an edit can be made, with its price."""
    said = []
    if plan.localize:
        said.append(f"first finding the layers: at most {price_in_words(plan.localize)}")
    if plan.strength:
        first = "then" if plan.localize else "first"
        said.append(f"{first} choosing the strength: at most {price_in_words(plan.strength)}")
    return tuple(said)


def price_in_words(runs: PlannedRuns) -> str:
    """Return a price: "272 pictures, 10880 UNet evaluations"."""
    return f"{runs.n_pictures} pictures, {runs.unet_evaluations} UNet evaluations"


def _planned_edits(located: LocatedModel, recipe: Recipe) -> tuple[PlannedEdit, ...]:
    layers_of = named_layers(located, recipe) or (None,) * len(recipe.edits)
    return tuple(
        _planned(entry, entry.edit_pairs, layers, located.spec.module_paths)
        for entry, layers in zip(recipe.edits, layers_of, strict=True)
    )


def _planned(
    entry: EditEntry,
    pairs: tuple[PromptPair, ...],
    layers: tuple[int, ...] | None = None,
    module_paths: tuple[str, ...] = (),
) -> PlannedEdit:
    concept = entry.concept
    return PlannedEdit(
        kind=concept.kind,
        subject=concept.subject,
        to=concept.to,
        layers=layers,
        module_paths=tuple(module_paths[layer] for layer in layers or ()),
        source=tuple(pair.source for pair in pairs),
        target=tuple(pair.target for pair in pairs),
    )


def _named(output: Path | None) -> str | None:
    return None if output is None else _relative(output)


def _relative(path: Path) -> str:
    try:
        return Path(os.path.relpath(path)).as_posix()
    except ValueError:  # another drive of Windows
        return path.name
