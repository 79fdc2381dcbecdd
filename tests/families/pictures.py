"""Small models in diffusers: loading and drawing."""

import functools
import warnings
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DiffusionPipeline,
    IFPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn

from loco_cli.sampling.pipeline import silence_libraries
from tests.families.small import SmallModel

_PIPELINES = {
    "sd1": StableDiffusionPipeline,
    "sd2": StableDiffusionPipeline,
    "sdxl": StableDiffusionXLPipeline,
    "if": IFPipeline,
}


def load_folder(
    path: Path, model: SmallModel, variant: str | None = None, **parts: Any
) -> DiffusionPipeline:
    """Return the float32 pipeline of a diffusers folder; `parts` replace components."""
    with silence_libraries():
        pipe = _PIPELINES[model.family].from_pretrained(
            path,
            variant=variant,
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32,
            **_unsafe(model),
            **parts,
        )
    return _settled(pipe)


def load_file(path: Path, model: SmallModel, config: Path, **parts: Any) -> DiffusionPipeline:
    """Return the float32 pipeline of a single file with the configuration of a folder."""
    with silence_libraries():
        pipe = _PIPELINES[model.family].from_single_file(
            str(path),
            config=str(config),
            local_files_only=True,
            dtype=torch.float32,
            **_unsafe(model),
            **parts,
        )
    return _settled(pipe)


def load_unet(path: Path, config: Path) -> UNet2DConditionModel:
    """Return the float32 UNet of a single file."""
    with silence_libraries():
        unet = UNet2DConditionModel.from_single_file(
            str(path),
            config=str(config),
            subfolder="unet",
            local_files_only=True,
            dtype=torch.float32,
        )
    _copy_weights(unet)
    return unet


def draw(pipe: DiffusionPipeline, *prompts: str) -> Tensor:  # [n, 3, h, w]
    """Return the picture of each prompt, after two guided steps from seed 0."""
    options = {"clean_caption": False} if isinstance(pipe, IFPipeline) else {}
    with warnings.catch_warnings():
        # numpy 2 warns of the way in which the Euler scheduler converts tensors
        warnings.filterwarnings("ignore", "__array__", DeprecationWarning)
        return pipe(
            list(prompts),
            num_inference_steps=2,
            guidance_scale=4.0,
            generator=[torch.Generator().manual_seed(0) for _ in prompts],
            output_type="pt",
            **options,
        ).images


def contexts_of(
    pipe: DiffusionPipeline, paths: Iterable[str], prompts: Sequence[str]
) -> dict[str, Tensor]:  # each [n, n_tokens, d]
    """Return the inputs of some UNet maps for some prompts, by path."""
    read: dict[str, Tensor] = {}
    with ExitStack() as handles:
        for path in paths:
            watch = functools.partial(_watch, read, path)
            handles.enter_context(pipe.unet.get_submodule(path).register_forward_pre_hook(watch))
        draw(pipe, *prompts)
    # the first half of a guided batch is unconditional
    return {path: given[len(prompts) :] for path, given in read.items()}


def end_of(pipe: DiffusionPipeline, prompt: str) -> int:
    """Return the position of a prompt's end token, equal for all tokenizers."""
    ids = pipe.tokenizer(prompt).input_ids
    return ids.index(pipe.tokenizer.eos_token_id)


def _watch(read: dict[str, Tensor], path: str, _: nn.Module, args: tuple[Tensor, ...]) -> None:
    read[path] = args[0].detach()


def _unsafe(model: SmallModel) -> dict[str, Any]:
    if model.family == "sdxl":
        return {}
    return {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def _settled(pipe: DiffusionPipeline) -> DiffusionPipeline:
    pipe.set_progress_bar_config(disable=True)
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            _copy_weights(part)
    return pipe


def _copy_weights(module: nn.Module) -> None:
    # tensors of a mapped file may be unaligned, which changes the order of rounding
    for parameter in module.parameters():
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
