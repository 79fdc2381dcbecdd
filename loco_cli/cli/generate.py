"""`loco generate`: images of prompts."""

import io
from typing import TYPE_CHECKING, Annotated

import typer
from rich.color import Color
from rich.style import Style
from rich.text import Text

from loco_cli.cli import options as o
from loco_cli.cli.console import Terminal, plain
from loco_cli.cli.request import MachineOptions, OutputOptions, spread

if TYPE_CHECKING:
    from loco_cli.commands.generate import Generated

_IMAGE_COLUMNS = 48  # width of an image in a terminal, in characters


@spread
def generate(
    ctx: typer.Context,
    prompt: Annotated[
        list[str],
        typer.Argument(
            metavar="PROMPT...", help="Each prompt gives one row of images.", show_default=False
        ),
    ],
    machine: MachineOptions,
    result: OutputOptions,
    model: o.ModelWithoutRecipe = "tiny",
    seeds: o.Seeds = 1,
    steps: o.Steps = None,
    guidance: o.Guidance = None,
) -> None:
    """
    Generate an image of each prompt, or a row of images with `--seeds`.

    Without `--output`, the images are drawn in the terminal.

    Example: loco generate "a cat in the style of monet" --seeds 4 -o cats.png
    """
    terminal: Terminal = ctx.obj
    from loco_cli.cli.listener import reporting, show_plan
    from loco_cli.commands import generate as command

    options = command.GenerateOptions(
        tuple(prompt),
        tuple(range(seeds or 1)),
        model or "tiny",
        steps,
        guidance,
        result.output,
        result.force,
    )
    plan = command.plan(options)
    if result.dry_run:
        show_plan(terminal, plan.document())
        return
    with reporting(terminal) as events:
        made = command.run(plan, machine.run_options(), events)
    terminal.show(made.to_json(), *([] if made.path else map(_drawn, made.pictures)))
    if made.path:
        terminal.note(f"wrote {made.path}")


def _drawn(picture: "Generated") -> Text:
    """Return an image drawn with half blocks, two pixels per character."""
    from PIL import Image

    image = Image.open(io.BytesIO(picture.png)).convert("RGB")
    size = (_IMAGE_COLUMNS, _IMAGE_COLUMNS)
    pixels = image.resize(size, Image.Resampling.BOX).tobytes()
    colors = [Color.from_rgb(*pixels[at : at + 3]) for at in range(0, len(pixels), 3)]
    drawn = Text()
    for y in range(0, _IMAGE_COLUMNS, 2):
        for x in range(_IMAGE_COLUMNS):
            top = colors[y * _IMAGE_COLUMNS + x]
            bottom = colors[(y + 1) * _IMAGE_COLUMNS + x]
            drawn.append("▀", Style(color=top, bgcolor=bottom))
        drawn.append("\n")
    return drawn.append(plain(f"{picture.prompt}, seed {picture.seed}"))
