"""Make pictures of prompts, one row each, one picture a seed."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loco_cli.checkpoint.staging import write_new
from loco_cli.commands import plans
from loco_cli.commands.plans import PictureRequest
from loco_cli.events import SILENT, Events
from loco_cli.interventions import Run
from loco_cli.models.locate import locate
from loco_cli.models.session import RunOptions, load_model
from loco_cli.report.sheet import Cell, Row, render_sheet
from loco_cli.sampling.sample import choose_batch_size, count_steps, sample, to_png


@dataclass(frozen=True)
class Generated:
    """A picture that was made: its prompt, its seed, its PNG."""

    prompt: str
    seed: int
    png: bytes


@dataclass(frozen=True)
class Made:
    """The pictures of a request, and the file they were written to, if any."""

    model: str
    pictures: tuple[Generated, ...]
    path: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what was made as `loco.generated/1`."""
        return {
            "schema": "loco.generated/1",
            "model": self.model,
            "pictures": [{"prompt": one.prompt, "seed": one.seed} for one in self.pictures],
            "path": self.path and Path(os.path.relpath(self.path)).as_posix(),
        }


def run(
    request: PictureRequest,
    machine: RunOptions,
    output: Path | None = None,
    *,
    force: bool = False,
    events: Events = SILENT,
) -> Made:
    """Return a picture for every prompt and seed, prompts first; with `output`, in one PNG."""
    plans.generate(request, output, force=force)
    located = locate(request.model)
    pipeline = load_model(located, machine, events)
    runs = [Run(prompt, seed) for prompt in request.prompts for seed in request.seeds]
    steps, guidance = located.spec.sampling(request.steps, request.guidance)
    images = sample(
        pipeline,
        runs,
        steps=steps,
        guidance=guidance,
        batch_size=choose_batch_size(machine.batch_size, pipeline),
        tick=events.ticker("generating", len(runs) * count_steps(pipeline, steps)),
    )
    pictures = tuple(
        Generated(run.prompt, run.seed, to_png(image))
        for run, image in zip(runs, images, strict=True)
    )
    made = Made(located.name, pictures, output)
    if output:
        write_new(output, _as_file(made, len(request.seeds)))
    return made


def _as_file(made: Made, n_seeds: int) -> bytes:
    """Return one picture as it is, several as a sheet with a row for each prompt."""
    if len(made.pictures) == 1:
        return made.pictures[0].png
    rows = [
        Row(
            made.pictures[start].prompt,
            tuple(
                Cell(one.png, f"seed {one.seed}") for one in made.pictures[start : start + n_seeds]
            ),
        )
        for start in range(0, len(made.pictures), n_seeds)
    ]
    return render_sheet(made.model, rows)
