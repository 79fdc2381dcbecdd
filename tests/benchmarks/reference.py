"""
The paper's search for a layer range, in plain code, as the reference for timings.

For every window, prompt and seed the whole sampler runs, one picture at a time, and every picture
encodes its prompts anew (Basu et al. 2024, arXiv:2405.01008, Algorithm 1).
"""

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from loco_cli.concept import PromptPair
from loco_cli.layers import sliding_windows
from loco_cli.recipe.record import EditEntry
from loco_cli.sampling.clip_score import ClipScorer
from loco_cli.sampling.pipeline import Pipeline

Window = tuple[int, ...]


def windows_of(n_layers: int, width: int) -> list[Window]:
    """Return every window of the sweep."""
    return [tuple(window) for window in sliding_windows(n_layers, width)]


def sweep(
    pipeline: Pipeline,
    scorer: ClipScorer,
    entry: EditEntry,
    *,
    windows: Iterable[Window],
    pairs: Sequence[PromptPair],
    seeds: Sequence[int],
) -> dict[Window, float]:
    """Return the mean score of every window, a picture for each prompt and seed."""
    return {
        window: fmean(
            _score(pipeline, scorer, entry, window, pair, seed) for pair in pairs for seed in seeds
        )
        for window in windows
    }


def chosen(scores: dict[Window, float], kind: str) -> Window:
    """Return the window with the lowest score, for a fact with the highest."""
    return (max if kind == "fact" else min)(scores, key=scores.__getitem__)


def _score(
    pipeline: Pipeline,
    scorer: ClipScorer,
    entry: EditEntry,
    window: Window,
    pair: PromptPair,
    seed: int,
) -> float:
    paths = [pipeline.spec.module_paths[layer] for layer in window]
    image = picture(pipeline, paths, pair, seed)
    caption = pair.target if entry.kind == "fact" else pair.source
    return scorer.scores(image[None], [caption])[0]


@torch.no_grad()
def picture(
    pipeline: Pipeline,
    paths: Sequence[str],
    pair: PromptPair,
    seed: int,
    steps: int | None = None,  # the model's own
) -> Tensor:  # [3, h, w], 0 to 1
    """Return the source prompt's picture, some layers reading the target prompt."""
    pipe, (n_steps, guidance) = pipeline.pipe, pipeline.spec.sampling(steps, None)
    states, nothing, *_ = pipe.encode_prompt(
        prompt=[pair.target],
        device=pipe.device,
        num_images_per_prompt=1,
        do_classifier_free_guidance=True,
    )
    given = torch.cat([nothing, states])

    def read_target(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return args, {**kwargs, "encoder_hidden_states": given}

    layers = [pipe.unet.get_submodule(path) for path in paths]
    hooks = [layer.register_forward_pre_hook(read_target, with_kwargs=True) for layer in layers]
    try:
        made = pipe(
            prompt=[pair.source],
            generator=torch.Generator().manual_seed(seed),
            num_inference_steps=n_steps,
            guidance_scale=guidance,
            output_type="pt",
        )
    finally:
        for hook in hooks:
            hook.remove()
    return made.images[0].float().cpu()
