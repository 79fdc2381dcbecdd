"""A checkpoint as a running pipeline of diffusers, quiet and offline."""

import contextlib
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from torch import Tensor
from transformers.utils import logging as transformers_logging

from loco_cli.errors import CheckpointError, RequestError
from loco_cli.models.spec import ModelSpec
from loco_cli.runtime.encode import TextEncoder

PARTS = ("unet", "text_encoder", "vae")
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass
class Pipeline:
    """A loaded model: diffusers' pipeline, what is known of it, and the encodings made so far."""

    pipe: StableDiffusionPipeline
    spec: ModelSpec
    encoder: TextEncoder
    encodings: dict[str, Tensor] = field(default_factory=dict)  # prompt -> [n_tokens, d_text]

    def encode(self, prompts: Sequence[str]) -> Tensor:  # [n, n_tokens, d_text]
        """Return text embeddings in the UNet's dtype, each prompt encoded once, by itself."""
        for prompt in prompts:
            if prompt not in self.encodings:
                (encoded,) = self.encoder.encode([prompt])
                self.encodings[prompt] = encoded.states
        states = torch.stack([self.encodings[prompt] for prompt in prompts])
        return states.to(self.pipe.unet.device, self.pipe.unet.dtype)


def choose_device(device: str) -> str:
    """Return the device that `auto` means here, or `device` if it is usable."""
    usable = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        return next(name for name, is_usable in usable.items() if is_usable)
    if not usable.get(device, False):
        raise RequestError(
            f"device `{device}` is not usable here", "use `--device auto` or `--device cpu`"
        )
    return device


def choose_dtype(dtype: str, device: str) -> torch.dtype:
    """Return the dtype that `auto` means on a device: float32 on a CPU, float16 elsewhere."""
    if dtype == "auto":
        return torch.float32 if device == "cpu" else torch.float16
    if dtype not in _DTYPES:
        raise RequestError(f"unknown dtype `{dtype}`", f"choose one of auto, {', '.join(_DTYPES)}")
    return _DTYPES[dtype]


def load_pipeline(
    path: Path,
    spec: ModelSpec,
    *,
    config: Path,
    holds: Callable[[str, str], bool],
    device: str = "auto",
    dtype: str = "auto",
) -> Pipeline:
    """
    Return the running pipeline of a diffusers folder, or of a single file with its `config` folder.

    Nothing is fetched, no pickle is read. `holds` tells whether the checkpoint has a tensor of a
    part, since a missing one is made up at loading. Raises CheckpointError where one is missing,
    or diffusers refuses the files.
    """
    where = choose_device(device)
    options = {
        "dtype": choose_dtype(dtype, where),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
        "local_files_only": True,
    }
    with hushed():
        try:
            pipe = _read(path, config, options)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
            raise CheckpointError(
                f"checkpoint `{path}` does not load as `{spec.family}`: {_first_line(error)}"
            ) from error
        _check_whole(path, pipe, holds)
        pipe.set_progress_bar_config(disable=True)
        pipe.to(where)
    return Pipeline(pipe, spec, TextEncoder(pipe.text_encoder, pipe.tokenizer))


def _read(path: Path, config: Path, options: dict[str, Any]) -> StableDiffusionPipeline:
    if path.is_dir():
        return StableDiffusionPipeline.from_pretrained(
            path, use_safetensors=True, variant=_variant(path), **options
        )
    return StableDiffusionPipeline.from_single_file(str(path), config=str(config), **options)


def _check_whole(
    path: Path, pipe: StableDiffusionPipeline, holds: Callable[[str, str], bool]
) -> None:
    missing = [
        f"{part}/{name}"
        for part in PARTS
        for name in getattr(pipe, part).state_dict()
        if not holds(part, name)
    ]
    if missing:
        raise CheckpointError(
            f"checkpoint `{path}` lacks {len(missing)} tensors, among them `{missing[0]}`"
        )


def _variant(folder: Path) -> str | None:
    """Return the variant of a folder whose UNet comes in no plain file, such as `fp16`."""
    stem = "diffusion_pytorch_model"
    unet = folder / "unet"
    if any((unet / f"{stem}.safetensors{end}").exists() for end in ("", ".index.json")):
        return None
    names = sorted(path.name for path in unet.glob(f"{stem}.*.safetensors"))
    return names[0].split(".")[1].split("-")[0] if names else None


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """While open, diffusers and transformers report errors only, and draw no bars."""
    levels = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    diffusers_logging.set_verbosity(logging.ERROR)
    transformers_logging.set_verbosity(logging.ERROR)
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # loading bars of nested libraries
            yield
    finally:
        diffusers_logging.set_verbosity(levels[0])
        transformers_logging.set_verbosity(levels[1])


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
