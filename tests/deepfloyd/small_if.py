"""The small IF as a located model, its scorers, and the recognition of its pictures."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from loco_cli.evaluating.judge import EvaluationContext, Scorers
from loco_cli.families import known_concepts
from loco_cli.interventions import Run
from loco_cli.models.locate import LocatedModel, locate
from loco_cli.models.session import RunOptions, find_scorer, load_model, load_scorer
from loco_cli.sampling.sample import choose_batch_size, sample
from loco_cli.tiny.training.figures import _unseen_prompts, recognition

FOLDER = Path(__file__).parent / "model"
STEPS, GUIDANCE = 10, 2.0
FIRST_SEED = 5000  # localization, edits and evaluation use other seeds


def locate_small_if(folder: Path = FOLDER) -> LocatedModel:
    """Locate the model, and add its known concepts, its scorer and its sampling defaults."""
    located = locate(str(folder))
    spec = replace(
        located.spec,
        known_concepts=known_concepts.TINY,
        scorer="tiny",
        steps=STEPS,
        guidance=GUIDANCE,
    )
    return replace(located, spec=spec)


def load_bench(located: LocatedModel) -> EvaluationContext:
    """Load the pipeline, and the scorer and judge of `tiny`, which read larger pictures."""
    machine = RunOptions(device="cpu")
    pipeline = load_model(located, machine)
    judge = load_scorer(located, replace(machine, scorer=str(find_scorer("tiny").parent / "judge")))
    scorers = Scorers(load_scorer(located, machine), judge)
    return EvaluationContext(located, pipeline, scorers, choose_batch_size("auto", pipeline))


def recognised(
    bench: EvaluationContext, n_rounds: int = 1, every: int = 1
) -> dict[str, dict[str, Any]]:
    """Return the shares of scenes in unseen wordings that scorer and judge recognise."""
    prompts = list(_unseen_prompts(n_rounds))[::every]
    runs = [Run(prompt, FIRST_SEED + index) for index, (_, prompt) in enumerate(prompts)]
    spec = bench.located.spec
    images = sample(
        bench.pipeline, runs, steps=spec.steps, guidance=spec.guidance, batch_size=bench.batch_size
    )
    side = bench.scorers.judge.side
    larger = functional.interpolate(torch.stack(list(images)), (side, side), mode="bicubic")
    scenes = [scene for scene, _ in prompts]
    towers = {"scorer": bench.scorers.scorer, "judge": bench.scorers.judge}
    return {name: recognition(tower, larger.clamp(0, 1), scenes) for name, tower in towers.items()}


def draw(
    bench: EvaluationContext, prompts: Sequence[str], seeds: Sequence[int]
) -> list[torch.Tensor]:
    """Generate the pictures of all prompts and seeds, prompt by prompt."""
    spec = bench.located.spec
    runs = [Run(prompt, seed) for prompt in prompts for seed in seeds]
    return list(
        sample(
            bench.pipeline,
            runs,
            steps=spec.steps,
            guidance=spec.guidance,
            batch_size=bench.batch_size,
        )
    )
