"""`loco generate`: pictures of prompts, one row each, one picture a seed."""

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
    """What to draw and where to: `GenerateOptions(("a cat",), seeds=(0, 1), model="tiny")`."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    model: str
    steps: int | None = None
    guidance: float | None = None
    output: Path | None = None
    force: bool = False


@dataclass(frozen=True)
class GeneratePlan:
    """Pictures that were checked: their model, and their sampling with its defaults filled in."""

    located: LocatedModel
    options: GenerateOptions
    sampling: tuple[int, float]  # steps, guidance

    @property
    def runs(self) -> tuple[Run, ...]:
        """A run for every prompt and seed, prompts first."""
        options = self.options
        return tuple(Run(prompt, seed) for prompt in options.prompts for seed in options.seeds)

    def document(self) -> Plan:
        """Return the plan as `--dry-run` prints it."""
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
    """A picture that was made: its prompt, its seed, its PNG."""

    prompt: str
    seed: int
    png: bytes


@dataclass(frozen=True)
class GenerateResult:
    """The pictures that were made, and the file they were written to, if any."""

    model: str
    pictures: tuple[Generated, ...]
    path: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what was made as `loco.generated/1`."""
        return {
            "schema": "loco.generated/1",
            "model": self.model,
            "pictures": [{"prompt": one.prompt, "seed": one.seed} for one in self.pictures],
            "path": self.path and relative_path(self.path),
        }


def plan(options: GenerateOptions) -> GeneratePlan:
    """Return what pictures will be made; raises where they cannot be made or written as asked."""
    check_steps(options.steps)
    output = options.output
    if options.guidance is not None and not math.isfinite(options.guidance):
        raise RequestError(f"guidance `{options.guidance}` is no finite number")
    if output and output.suffix.lower() != ".png":
        raise RequestError(f"the output `{output}` is no `.png`, which pictures are written as")
    located = locate(options.model)
    if output:
        check_file(output, located.checkpoint, force=options.force)
    sampling = located.spec.sampling(options.steps, options.guidance)
    return GeneratePlan(located, options, sampling)


def run(plan: GeneratePlan, machine: RunOptions, events: Events = SILENT_EVENTS) -> GenerateResult:
    """Return a picture for every prompt and seed, prompts first; with an output, in one PNG."""
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
        write_new(output, _as_file(made, len(plan.options.seeds)))
    return made


def _as_file(made: GenerateResult, n_seeds: int) -> bytes:
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
