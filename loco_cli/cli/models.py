"""`loco models`: the known models and their layers."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from loco_cli.cli.console import Terminal, plain, table
from loco_cli.cli.options import Debug, Json, Quiet, model_names
from loco_cli.cli.usage import Command, CommandGroup

if TYPE_CHECKING:
    from loco_cli.commands.models import KnownModel, LayerRow

app = typer.Typer(
    cls=CommandGroup,
    help="List the known models, or describe one of them.",
    no_args_is_help=True,
)


@app.command("list", cls=Command)
def list_models(
    ctx: typer.Context, as_json: Json = False, quiet: Quiet = False, debug: Debug = False
) -> None:
    """
    List the known models, and show which of them are on this machine.

    Example: loco models list
    """
    from loco_cli.commands import models as command

    terminal: Terminal = ctx.obj
    models = command.list_models()
    terminal.show(command.models_document(models), _models_table(models))


@app.command("show", cls=Command)
def show_model(
    ctx: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            autocompletion=model_names,
            help="An alias, or the path of a folder or a file.",
            show_default=False,
        ),
    ],
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """
    Describe a model and list its layers in execution order.

    Example: loco models show tiny
    """
    from loco_cli.commands import models as command

    terminal: Terminal = ctx.obj
    model = command.show_model(name)
    layers = _layers_table(command.layer_table(model.spec))
    text = command.context_in_words(model.spec.context)
    lines = _description(model, text, command.projections_in_words(model.spec))
    terminal.show(command.model_document(model), *lines, layers)


def _models_table(models: "tuple[KnownModel, ...]") -> Table:
    found = table("name", "title", "family", "layers", "here")
    for model in models:
        spec = model.spec
        here = "yes" if model.is_here else "no"
        found.add_row(spec.name, plain(spec.title), spec.family.name, str(spec.n_layers), here)
    return found


def _description(model: "KnownModel", text: str, projections: str) -> list[Text]:
    spec = model.spec
    ranges = [f"{kind} [{a}, {b}]" for kind, (a, b) in spec.published_ranges.items()]
    facts = {
        "name": model.name,
        "title": spec.title,
        "family": spec.family.name,
        "from": spec.hub_id or ("ships with loco" if spec.is_shipped else "local files"),
        "licence": spec.licence or "unknown",
        "here": "yes" if model.is_here else "no",
        "text": text,
        "text width": str(spec.d_text),
        "edited": projections,
        "sampling": f"{spec.steps} steps, guidance {spec.guidance:g}, {spec.resolution} pixels",
        "scorer": spec.scorer,
        "published": ", ".join(ranges) or "none",
    }
    lines = [Text.assemble((f"{key:<11}", "bold"), plain(value)) for key, value in facts.items()]
    return [*lines, *(plain(f"not edited: {one}") for one in spec.unreachable)]


def _layers_table(rows: "tuple[LayerRow, ...]") -> Table:
    found = table("layer", "module path", "block", "width")
    for row in rows:
        found.add_row(str(row.layer), row.module_path, row.block, str(row.width))
    return found
