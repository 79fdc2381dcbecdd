"""
The options that mean the same wherever they occur, and the arguments that commands share.

`Json`, `Quiet` and `Debug` tell the terminal themselves, before the command runs.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from loco_cli.concept import ConceptKind
from loco_cli.methods import EDIT_METHODS, LOCOEDIT, EditMethodName, join_choices
from loco_cli.protocol.seeds import MAX_SEEDS

_WHAT = "What"
_HOW = "How"
_MACHINE = "RunOptions"
_OUTPUT = "Output"


def _tell(flag: str) -> Callable[[typer.Context, bool], bool]:
    def tell(ctx: typer.Context, value: bool) -> bool:
        setattr(ctx.obj, flag, value)
        return value

    return tell


def _batch_size(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise typer.BadParameter(f"`{text}` is not `auto` or a number from 1")
    return int(text)


def recipe_names(incomplete: str) -> list[str]:
    """Return the names of the catalog that begin so, for the shell to complete."""
    from loco_cli.recipe.catalog import entries

    return [entry.name for entry in entries() if entry.name.startswith(incomplete)]


def model_names(incomplete: str) -> list[str]:
    """Return the aliases that begin so, for the shell to complete."""
    from loco_cli.families import registry

    return [name for name in registry.names() if name.startswith(incomplete)]


RecipeArgument = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        autocompletion=recipe_names,
        help="A recipe file, a name of the catalog, or a concept in words.",
        show_default=False,
    ),
]
ConceptArgument = Annotated[
    str,
    typer.Argument(
        metavar="CONCEPT",
        autocompletion=recipe_names,
        help='A concept in words ("van gogh style"), a recipe file, or a name of the catalog.',
        show_default=False,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        autocompletion=model_names,
        help="An alias, a diffusers folder, a .safetensors file or a hub id.",
        show_default="the recipe's, else tiny",
        rich_help_panel=_WHAT,
    ),
]
To = Annotated[
    str | None,
    typer.Option("--to", metavar="TEXT", help="What it becomes.", rich_help_panel=_WHAT),
]
Kind = Annotated[
    ConceptKind | None,
    typer.Option(
        "--kind",
        metavar="KIND",
        help="style, object or fact; the whole text is then its subject.",
        rich_help_panel=_WHAT,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override one key of the recipe, as in edit.ridge=0.1; repeatable.",
        rich_help_panel=_WHAT,
    ),
]
LayerRange = Annotated[
    tuple[int, int] | None,
    typer.Option(
        "--layer-range",
        metavar="A B",
        min=0,
        help="Half-open range of layers: 8 10 is layers 8 and 9.",
        rich_help_panel=_HOW,
    ),
]
Layers = Annotated[
    str | None,
    typer.Option(
        "--layers",
        metavar="LIST",
        help='A set of layers, ends included, as in "1-3,10,11".',
        rich_help_panel=_HOW,
    ),
]
EditMethod = Annotated[
    EditMethodName | None,
    typer.Option(
        "--method",
        metavar="METHOD",
        help=f"How the weights are solved for: {join_choices(EDIT_METHODS)}.",
        show_default=LOCOEDIT.name,
    ),
]
RidgePrice = Annotated[
    str | None,
    typer.Option(
        "--ridge", metavar="VALUE", help="auto, a number, or like 0.01x of the keys' scale."
    ),
]
Neurons = Annotated[
    int | None,
    typer.Option(
        "--neurons",
        metavar="N",
        min=1,
        help="Channels of each projection that `neurons` holds.",
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
        help="Images per prompt.",
        rich_help_panel=_HOW,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", metavar="N", min=1, help="Sampler steps.", rich_help_panel=_HOW),
]
Guidance = Annotated[
    float | None,
    typer.Option("--guidance", metavar="F", min=0.0, help="Guidance scale.", rich_help_panel=_HOW),
]
Scorer = Annotated[
    str | None,
    typer.Option(
        "--scorer",
        metavar="NAME|PATH",
        help="The CLIP model that scores images.",
        show_default="the model's",
        rich_help_panel=_HOW,
    ),
]
NoCache = Annotated[
    bool,
    typer.Option(
        "--no-cache", help="Look for layers anew, even where it was done.", rich_help_panel=_HOW
    ),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda", "mps"],
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="Where to compute: auto, cpu, cuda or mps.",
        rich_help_panel=_MACHINE,
    ),
]
Dtype = Annotated[
    Literal["auto", "float32", "float16", "bfloat16"],
    typer.Option(
        "--dtype",
        metavar="DTYPE",
        help="The precision of sampling: auto, float32, float16 or bfloat16.",
        rich_help_panel=_MACHINE,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        metavar="auto|N",
        parser=_batch_size,
        help="Images at a time.",
        show_default="auto",
        rich_help_panel=_MACHINE,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="PATH", help="Where to write.", rich_help_panel=_OUTPUT),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Overwrite an output that exists.", rich_help_panel=_OUTPUT),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Everything but the work and the writing: print the plan.",
        rich_help_panel=_OUTPUT,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        callback=_tell("as_json"),
        help="Print one JSON document on stdout.",
        rich_help_panel=_OUTPUT,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        callback=_tell("is_quiet"),
        help="Say nothing on stderr but errors.",
        rich_help_panel=_OUTPUT,
    ),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        callback=_tell("is_debug"),
        envvar="LOCO_DEBUG",
        help="Print the traceback of an error.",
        rich_help_panel=_OUTPUT,
    ),
]
Epoch = Annotated[
    int | None,
    typer.Option("--epoch", envvar="SOURCE_DATE_EPOCH", min=0, hidden=True, show_envvar=False),
]
