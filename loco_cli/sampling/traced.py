"""
Generation of the pictures of a causal trace: corrupted embeddings and restored states.

The clean run is row 0 of each batch that restores states from it, so no state is stored between
calls.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from loco_cli.events import Tick
from loco_cli.families.spec import TextEncoderSpec
from loco_cli.interventions import UNET, Corrupt, TracedBatch, TracedRun
from loco_cli.sampling.hooks import add_noise_to_rows, restore_rows
from loco_cli.sampling.pipeline import Pipeline
from loco_cli.sampling.quiet import errors_only
from loco_cli.sampling.sample import run_pipeline

_NOISE_SEED_OFFSET = 1 << 31  # separates the corruption noise from the initial noise of a seed


@torch.no_grad()
def sample_traced(
    pipeline: Pipeline,
    batch: TracedBatch,
    *,
    steps: int,
    guidance: float,
    tick: Tick = lambda n: None,
) -> Tensor:  # [n, 3, h, w], 0 to 1
    """
    Return the pictures of a batch of traced runs, in order.

    Args:
        pipeline: The pipeline that generates the pictures.
        batch: Runs of one prompt and seed, with their clean run.
        steps: The number of denoising steps.
        guidance: The scale of classifier-free guidance.
        tick: Called after each UNet call with the number of runs.

    Returns:
        Pictures [n, 3, h, w] with values from 0 to 1.

    Raises:
        OutOfMemory: The batch does not fit into memory.
    """
    encoded, drawn = batch.encoded, batch.drawn
    rows = torch.tensor([encoded.index(run) for run in drawn])
    arguments = {name: value[rows] for name, value in _encode_traced(pipeline, encoded).items()}
    is_guided = pipeline.is_guided(guidance)
    if is_guided:
        arguments |= pipeline.prompt_encoder.negative_arguments(len(drawn))
    first = len(drawn) if is_guided else 0  # first row of the conditional half
    restored = _restored_rows(drawn, UNET, first)
    with restore_rows(pipeline.network, restored, clean=first):
        pictures = run_pipeline(
            pipeline,
            arguments,
            [run.seed for run in drawn],
            steps=steps,
            guidance=guidance,
            tick=lambda _: tick(len(batch.runs)),
        )
    return pictures[[drawn.index(run) for run in batch.runs]]


@torch.no_grad()
def _encode_traced(pipeline: Pipeline, runs: Sequence[TracedRun]) -> dict[str, Tensor]:
    """
    Encode runs of one prompt in one batch, and return the arguments of the pipeline.

    The first run is the clean one. The pipeline's own encoders are used.
    """
    pipe, encoders = pipeline.pipe, pipeline.spec.context.encoders
    noises = _noises(pipe, encoders, runs)
    with ExitStack() as hooks, errors_only():
        for encoder, noise in zip(encoders, noises, strict=True):
            module = getattr(pipe, encoder.component)
            restored = {
                _path_in_memory(module, path): rows
                for path, rows in _restored_rows(runs, encoder.component).items()
            }
            hooks.enter_context(add_noise_to_rows(_token_embedding(pipe, encoder), noise))
            hooks.enter_context(restore_rows(module, restored, clean=0))
        states, _, *pooled = pipe.encode_prompt(
            prompt=[run.prompt for run in runs],
            device=pipeline.network.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
    names = ("prompt_embeds", "pooled_prompt_embeds")
    named = zip(names, (states, *pooled[:1]), strict=False)
    return {name: value.to(pipeline.network.dtype) for name, value in named}


def _path_in_memory(module: nn.Module, path: str) -> str:
    """Return the path of a submodule of a loaded encoder."""
    # the CLIPTextModel of transformers 5 has no `text_model.` prefix
    return path if hasattr(module, path.partition(".")[0]) else path.partition(".")[2]


def _token_embedding(pipe: Any, encoder: TextEncoderSpec) -> nn.Module:
    # T5 may hold two copies of its table, and its encoder reads the last one
    module = getattr(pipe, encoder.component)
    path = encoder.token_embedding_names[-1].removesuffix(".weight")
    found: nn.Module = module.get_submodule(_path_in_memory(module, path))
    return found


def _restored_rows(
    runs: Sequence[TracedRun], component: str, first: int = 0
) -> dict[str, dict[int, tuple[int, ...] | None]]:
    """Return the restored positions by module path and row; the first run has row `first`."""
    restored: dict[str, dict[int, tuple[int, ...] | None]] = {}
    for row, run in enumerate(runs, first):
        for state in run.restore:
            if state.component == component:
                restored.setdefault(state.module_path, {})[row] = state.positions
    return restored


def _noises(
    pipe: Any, encoders: Sequence[TextEncoderSpec], runs: Sequence[TracedRun]
) -> list[dict[int, tuple[tuple[int, ...], Tensor]]]:
    """Return the noise for the word embeddings of each row, for each encoder."""
    widths = [_token_embedding(pipe, encoder).weight.shape[1] for encoder in encoders]
    corrupted = [(row, run.corrupt) for row, run in enumerate(runs) if run.corrupt is not None]
    drawn = {corrupt: _noise(corrupt, widths) for corrupt in {change for _, change in corrupted}}
    return [
        {row: (corrupt.positions, drawn[corrupt][number]) for row, corrupt in corrupted}
        for number in range(len(encoders))
    ]


def _noise(corrupt: Corrupt, widths: Sequence[int]) -> list[Tensor]:  # each [n_positions, d]
    generator = torch.Generator().manual_seed(_NOISE_SEED_OFFSET + corrupt.seed)
    shapes = [(len(corrupt.positions), d) for d in widths]
    return [corrupt.level * torch.randn(shape, generator=generator) for shape in shapes]
