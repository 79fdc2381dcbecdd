"""
Traced runs to pictures: corrupted word embeddings, and states that come from the clean run.

The clean run rides in the batch of the runs that restore from it, as row 0, so that no state has
to be kept from one call to the next.
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
from loco_cli.sampling.sample import draw

_OTHER_NUMBERS = 1 << 31  # so that the noise of a seed is not that which its picture starts from


@torch.no_grad()
def sample_traced(
    pipeline: Pipeline,
    batch: TracedBatch,
    *,
    steps: int,
    guidance: float,
    tick: Tick = lambda n: None,
) -> Tensor:  # [n, 3, h, w], 0 to 1
    """Return the picture of each run of a batch, in order; raises MachineError without memory."""
    encoded, drawn = batch.encoded, batch.drawn
    places = torch.tensor([encoded.index(run) for run in drawn])
    arguments = {name: given[places] for name, given in _encode_traced(pipeline, encoded).items()}
    is_guided = pipeline.is_guided(guidance)
    if is_guided:
        arguments |= pipeline.prompt_encoder.negative_arguments(len(drawn))
    first = len(drawn) if is_guided else 0  # of the conditional half
    restored = _restored(drawn, UNET, first)
    with restore_rows(pipeline.network, restored, clean=first):
        pictures = draw(
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
    Return what the pipeline's own encoders make of runs of one prompt, as its arguments.

    The first run is the clean one; all of them are encoded in one batch.
    """
    pipe, encoders = pipeline.pipe, pipeline.spec.context.encoders
    noises = _noises(pipe, encoders, runs)
    with ExitStack() as hooks, errors_only():
        for encoder, noise in zip(encoders, noises, strict=True):
            module = getattr(pipe, encoder.component)
            restored = {
                _in_memory(module, path): rows
                for path, rows in _restored(runs, encoder.component).items()
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
    given = zip(names, (states, *pooled[:1]), strict=False)
    return {name: one.to(pipeline.network.dtype) for name, one in given}


def _in_memory(module: nn.Module, path: str) -> str:
    """Return the path of a part as the loaded module has it, which may lack `text_model.`."""
    # transformers 5 leaves the first part of the names of a CLIPTextModel out
    return path if hasattr(module, path.partition(".")[0]) else path.partition(".")[2]


def _token_embedding(pipe: Any, encoder: TextEncoderSpec) -> nn.Module:
    # where T5 has its table twice, the encoder's own is read
    module = getattr(pipe, encoder.component)
    path = encoder.token_embedding_names[-1].removesuffix(".weight")
    found: nn.Module = module.get_submodule(_in_memory(module, path))
    return found


def _restored(
    runs: Sequence[TracedRun], component: str, first: int = 0
) -> dict[str, dict[int, tuple[int, ...] | None]]:
    """Return by module path and row what is restored; row `first` is that of the first run."""
    restored: dict[str, dict[int, tuple[int, ...] | None]] = {}
    for row, run in enumerate(runs, first):
        for one in run.restore:
            if one.component == component:
                restored.setdefault(one.module_path, {})[row] = one.positions
    return restored


def _noises(
    pipe: Any, encoders: Sequence[TextEncoderSpec], runs: Sequence[TracedRun]
) -> list[dict[int, tuple[tuple[int, ...], Tensor]]]:
    """Return for each encoder the noise on the word embeddings of each row."""
    widths = [_token_embedding(pipe, encoder).weight.shape[1] for encoder in encoders]
    corrupted = [(row, run.corrupt) for row, run in enumerate(runs) if run.corrupt is not None]
    drawn = {corrupt: _noise(corrupt, widths) for corrupt in {one for _, one in corrupted}}
    return [
        {row: (corrupt.positions, drawn[corrupt][number]) for row, corrupt in corrupted}
        for number in range(len(encoders))
    ]


def _noise(corrupt: Corrupt, widths: Sequence[int]) -> list[Tensor]:  # each [n_positions, d]
    generator = torch.Generator().manual_seed(_OTHER_NUMBERS + corrupt.seed)
    shapes = [(len(corrupt.positions), d) for d in widths]
    return [corrupt.level * torch.randn(shape, generator=generator) for shape in shapes]
