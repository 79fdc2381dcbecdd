"""
Options and arguments that several commands share, with one meaning in all of them.

The callbacks of `Json`, `Quiet` and `Debug` set the flags of the terminal before the command runs.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from loco_cli.concept import ConceptKind
from loco_cli.methods import EDIT_METHODS, LOCOEDIT, EditMethodName, join_choices
from loco_cli.protocol.seeds import MAX_SEEDS

# titles of the panels in `--help`
_RECIPE = "Model and recipe"
_SAMPLING = "Layers and images"
_MACHINE = "Machine"
_OUTPUT = "Output"


def _terminal_flag(name: str) -> Callable[[typer.Context, bool], bool]:
    def set_flag(ctx: typer.Context, value: bool) -> bool:
        setattr(ctx.obj, name, value)
        return value

    return set_flag


def _batch_size(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise typer.BadParameter(f"`{text}` is neither `auto` nor a positive whole number")
    return int(text)


def recipe_names(incomplete: str) -> list[str]:
    """Return the catalog names that start with `incomplete`, for shell completion."""
    from loco_cli.recipe.catalog import entries

    return [entry.name for entry in entries() if entry.name.startswith(incomplete)]


def model_names(incomplete: str) -> list[str]:
    """Return the model aliases that start with `incomplete`, for shell completion."""
    from loco_cli.families import registry

    return [name for name in registry.names() if name.startswith(incomplete)]


def _model_option(show_default: str | bool) -> Any:
    return typer.Option(
        "--model",
        metavar="MODEL",
        autocompletion=model_names,
        help="An alias, a diffusers folder, a .safetensors file or a hub id.",
        show_default=show_default,
        rich_help_panel=_RECIPE,
    )


RecipeArgument = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        autocompletion=recipe_names,
        help='A recipe file, a catalog name, or a concept as text ("van gogh style").',
        show_default=False,
    ),
]
ConceptArgument = Annotated[
    str,
    typer.Argument(
        metavar="CONCEPT",
        autocompletion=recipe_names,
        help='A concept as text ("van gogh style"), a recipe file, or a catalog name.',
        show_default=False,
    ),
]
Model = Annotated[str | None, _model_option("the recipe's, else tiny")]
ModelWithoutRecipe = Annotated[str | None, _model_option(True)]
To = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="TEXT",
        help="The replacement for the concept, e.g. painting.",
        rich_help_panel=_RECIPE,
    ),
]
Kind = Annotated[
    ConceptKind | None,
    typer.Option(
        "--kind",
        metavar="KIND",
        help="The kind of the concept: style, object or fact. If given, the whole text is the "
        "subject.",
        rich_help_panel=_RECIPE,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override one key of the recipe, e.g. edit.ridge=0.1. Repeatable.",
        rich_help_panel=_RECIPE,
    ),
]
LayerRange = Annotated[
    tuple[int, int] | None,
    typer.Option(
        "--layer-range",
        metavar="A B",
        min=0,
        help="A half-open range of layers: 8 10 means layers 8 and 9.",
        rich_help_panel=_SAMPLING,
    ),
]
Layers = Annotated[
    str | None,
    typer.Option(
        "--layers",
        metavar="LIST",
        help='A set of layers, with inclusive ranges, e.g. "1-3,10,11".',
        rich_help_panel=_SAMPLING,
    ),
]
EditMethod = Annotated[
    EditMethodName | None,
    typer.Option(
        "--method",
        metavar="METHOD",
        help=f"The editing method: {join_choices(EDIT_METHODS)}.",
        show_default=LOCOEDIT.name,
    ),
]
RidgePrice = Annotated[
    str | None,
    typer.Option(
        "--ridge",
        metavar="VALUE",
        help="auto, a number, or a multiple of the mean squared norm of the keys, such as 0.01x.",
    ),
]
Neurons = Annotated[
    int | None,
    typer.Option(
        "--neurons",
        metavar="N",
        min=1,
        help="Channels per projection, for the method `neurons`.",
        show_default="three quarters",
    ),
]
Seeds = Annotated[
    int | None,
    typer.Option(
        "--seeds",
        metavar="N",
        min=1,
        max=MAX_SEEDS,
        help="Number of seeds. Each seed gives one image per prompt.",
        rich_help_panel=_SAMPLING,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", metavar="N", min=1, help="Sampler steps.", rich_help_panel=_SAMPLING),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        "--guidance", metavar="F", min=0.0, help="Guidance scale.", rich_help_panel=_SAMPLING
    ),
]
Scorer = Annotated[
    str | None,
    typer.Option(
        "--scorer",
        metavar="NAME|PATH",
        help="The CLIP model that scores the images.",
        show_default="the model's",
        rich_help_panel=_SAMPLING,
    ),
]
NoCache = Annotated[
    bool,
    typer.Option("--no-cache", help="Ignore cached localization runs.", rich_help_panel=_SAMPLING),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda", "mps"],
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="The device: auto, cpu, cuda or mps.",
        rich_help_panel=_MACHINE,
    ),
]
Dtype = Annotated[
    Literal["auto", "float32", "float16", "bfloat16"],
    typer.Option(
        "--dtype",
        metavar="DTYPE",
        help="The dtype for image generation: auto, float32, float16 or bfloat16.",
        rich_help_panel=_MACHINE,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        metavar="auto|N",
        parser=_batch_size,
        help="Images per batch.",
        show_default="auto",
        rich_help_panel=_MACHINE,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="PATH", help="Write to this path.", rich_help_panel=_OUTPUT
    ),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Overwrite existing output.", rich_help_panel=_OUTPUT),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Print the plan and exit.",
        rich_help_panel=_OUTPUT,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        callback=_terminal_flag("as_json"),
        help="Print the result as one JSON document.",
        rich_help_panel=_OUTPUT,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        callback=_terminal_flag("is_quiet"),
        help="Print only the result and errors.",
        rich_help_panel=_OUTPUT,
    ),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        callback=_terminal_flag("is_debug"),
        envvar="LOCO_DEBUG",
        help="Print a traceback with each error.",
        rich_help_panel=_OUTPUT,
    ),
]
Epoch = Annotated[
    int | None,
    typer.Option("--epoch", envvar="SOURCE_DATE_EPOCH", min=0, hidden=True, show_envvar=False),
]
