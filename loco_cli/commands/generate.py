"""`loco generate`: generate images, a row for each prompt and an image for each seed."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loco_cli.checkpoint.staging import write_new
from loco_cli.errors import RequestError
from loco_cli.events import SILENT_EVENTS, Events
from loco_cli.interventions import Run
from loco_cli.models.locate import LocatedModel, check_steps, locate
from loco_cli.models.session import RunOptions, load_model
from loco_cli.outputs.guards import check_file
from loco_cli.plan import Plan, PlannedRuns, relative_path
from loco_cli.report.sheet import Cell, Row, render_sheet


@dataclass(frozen=True)
class GenerateOptions:
    """Prompts, seeds and settings: `GenerateOptions(("a cat",), seeds=(0, 1), model="tiny")`."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    model: str
    steps: int | None = None
    guidance: float | None = None
    output: Path | None = None
    force: bool = False


@dataclass(frozen=True)
class GeneratePlan:
    """A checked request for images, with the default steps and guidance of its model."""

    located: LocatedModel
    options: GenerateOptions
    sampling: tuple[int, float]  # steps, guidance

    @property
    def runs(self) -> tuple[Run, ...]:
        """A run for each prompt and seed: all seeds of the first prompt, then of the next."""
        options = self.options
        return tuple(Run(prompt, seed) for prompt in options.prompts for seed in options.seeds)

    def document(self) -> Plan:
        """Return the plan that `--dry-run` prints."""
        located, output = self.located, self.options.output
        return Plan(
            command="generate",
            model=located.name,
            family=located.spec.family.name,
            path=relative_path(located.path),
            method="sample",
            pictures=PlannedRuns.of(len(self.runs), self.sampling),
            output=output and relative_path(output),
        )


@dataclass(frozen=True)
class Generated:
    """A generated image: its prompt, its seed, its PNG file."""

    prompt: str
    seed: int
    png: bytes


@dataclass(frozen=True)
class GenerateResult:
    """The generated images, and the path of their PNG file if they were written."""

    model: str
    pictures: tuple[Generated, ...]
    path: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the result, without its images, as `loco.generated/1`."""
        return {
            "schema": "loco.generated/1",
            "model": self.model,
            "pictures": [{"prompt": one.prompt, "seed": one.seed} for one in self.pictures],
            "path": self.path and relative_path(self.path),
        }


def plan(options: GenerateOptions) -> GeneratePlan:
    """
    Return the plan of a request for images, after all checks that need no model in memory.

    Args:
        options: Prompts, seeds, model, settings and output.

    Raises:
        RequestError: A setting is invalid, or the output is not a `.png` file or exists.
        ModelUnavailable: The model is not on this machine and cannot be downloaded.
    """
    check_steps(options.steps)
    output = options.output
    if options.guidance is not None and not math.isfinite(options.guidance):
        raise RequestError(f"guidance must be a finite number, not `{options.guidance}`")
    if output and output.suffix.lower() != ".png":
        raise RequestError(
            f"cannot write images to `{output}`: only `.png` files are supported",
            f"pass `--output {output.with_suffix('.png')}`",
        )
    located = locate(options.model)
    if output:
        check_file(output, located.checkpoint, force=options.force)
    sampling = located.spec.sampling(options.steps, options.guidance)
    return GeneratePlan(located, options, sampling)


def run(plan: GeneratePlan, machine: RunOptions, events: Events = SILENT_EVENTS) -> GenerateResult:
    """
    Execute the plan: generate an image for each prompt and seed, and write them to one PNG file.

    Args:
        plan: A checked request.
        machine: Device, dtype and batch size.
        events: Receives the progress.
    """
    from loco_cli.sampling.sample import choose_batch_size, count_unet_calls, sample, to_png

    pipeline = load_model(plan.located, machine, events)
    runs, (steps, guidance) = plan.runs, plan.sampling
    images = sample(
        pipeline,
        runs,
        steps=steps,
        guidance=guidance,
        batch_size=choose_batch_size(machine.batch_size, pipeline),
        tick=events.ticker("generating", len(runs) * count_unet_calls(pipeline, steps)),
    )
    pictures = tuple(
        Generated(run.prompt, run.seed, to_png(image))
        for run, image in zip(runs, images, strict=True)
    )
    output = plan.options.output
    made = GenerateResult(plan.located.name, pictures, output)
    if output:
        write_new(output, _render_png(made, len(plan.options.seeds)))
    return made


def _render_png(made: GenerateResult, n_seeds: int) -> bytes:
    """Return a PNG file: a single image unchanged, or a sheet with one row per prompt."""
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
