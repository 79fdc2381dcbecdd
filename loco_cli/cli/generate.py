"""`loco generate`: a picture, or a row of them."""

import io
from typing import TYPE_CHECKING, Annotated

import typer
from rich.color import Color
from rich.style import Style
from rich.text import Text

from loco_cli.cli import options as o
from loco_cli.cli import request as g
from loco_cli.cli.console import Terminal, plain

if TYPE_CHECKING:
    from loco_cli.commands.generate import Generated

COLUMNS = 48  # characters that a picture takes in a terminal


@g.spread
def generate(
    ctx: typer.Context,
    prompt: Annotated[
        list[str],
        typer.Argument(metavar="PROMPT...", help="What to draw; one row each.", show_default=False),
    ],
    computing: g.Computing,
    result: g.Result,
    model: o.Model = "tiny",
    seeds: o.Seeds = 1,
    steps: o.Steps = None,
    guidance: o.Guidance = None,
) -> None:
    """
    Make a picture of a prompt, or a row of them with `--seeds`.

    Without `--output` it is drawn into the terminal.

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
        made = command.run(plan, computing.machine(), events)
    terminal.show(made.to_json(), *([] if made.path else map(_drawn, made.pictures)))
    if made.path:
        terminal.say(f"wrote {made.path}")


def _drawn(picture: "Generated") -> Text:
    """Return a picture as half blocks, two pixels a character."""
    from PIL import Image

    image = Image.open(io.BytesIO(picture.png)).convert("RGB")
    pixels = image.resize((COLUMNS, COLUMNS), Image.Resampling.BOX).tobytes()
    colors = [Color.from_rgb(*pixels[at : at + 3]) for at in range(0, len(pixels), 3)]
    drawn = Text()
    for y in range(0, COLUMNS, 2):
        for x in range(COLUMNS):
            top, bottom = colors[y * COLUMNS + x], colors[(y + 1) * COLUMNS + x]
            drawn.append("▀", Style(color=top, bgcolor=bottom))
        drawn.append("\n")
    return drawn.append(plain(f"{picture.prompt}, seed {picture.seed}"))
