"""Loading of a checkpoint as a diffusers pipeline, quietly and offline."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
)

from loco_cli.encoders.tokenizer import load_tokenizer
from loco_cli.errors import CheckpointError, MachineError, RequestError
from loco_cli.families import registry
from loco_cli.families.spec import ModelSpec, TextEncoderSpec
from loco_cli.sampling.conditioning import PromptEncoder
from loco_cli.sampling.quiet import silence_libraries

Tensors = Callable[[str], Mapping[str, Tensor]]  # component -> its tensors, by diffusers name

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_ALIGNMENT_BYTES = 64  # alignment of the tensors that torch allocates on a CPU


@dataclass
class Pipeline:
    """A loaded model: its diffusers pipeline, its spec and its encoded prompts."""

    pipe: DiffusionPipeline
    spec: ModelSpec
    prompt_encoder: PromptEncoder

    @property
    def network(self) -> nn.Module:
        """The denoising network."""
        return self.prompt_encoder.network

    @property
    def has_latents(self) -> bool:
        """True if the network denoises latents, which a VAE decodes to pictures."""
        return "vae" in self.pipe.components

    def is_guided(self, guidance: float) -> bool:
        """
        Return True if guidance doubles the batch, with the conditional half second.

        The rule is that of diffusers, for families with a doubled batch.
        """
        has_halves = self.spec.family.guided_batch == "halves"
        has_no_guidance_input = self.network.config.get("time_cond_proj_dim") is None
        return has_halves and guidance > 1 and has_no_guidance_input


def choose_device(device: str) -> str:
    """
    Return the device of a run: the best one of this machine for `auto`, else `device`.

    Raises:
        RequestError: This machine does not have the device.
    """
    usable = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        return next(name for name, is_usable in usable.items() if is_usable)
    if not usable.get(device, False):
        raise RequestError(
            f"device `{device}` is not available on this machine",
            "use `--device auto` or `--device cpu`",
        )
    return device


def _choose_dtype(dtype: str, device: str) -> torch.dtype:
    """Return the dtype of a run; `auto` is float32 on a CPU and float16 elsewhere."""
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
    tensors: Tensors,
    device: str = "auto",
    dtype: str = "auto",
) -> Pipeline:
    """
    Load a diffusers folder or a single file as a pipeline.

    Loading does not download files and does not read pickles.

    Args:
        path: The folder or the file.
        spec: The spec of the model.
        config: The diffusers folder with the configuration of a single file.
        holds: Returns True if the checkpoint has a tensor, given its component and its name. The
            libraries fill missing tensors with random numbers, so the pipeline is checked against
            it.
        tensors: Returns all tensors of a component.
        device: A device, or `auto` for the best one of this machine.
        dtype: A dtype, or `auto` for float32 on a CPU and float16 elsewhere.

    Raises:
        CheckpointError: A tensor is missing, diffusers rejects the files, or the network needs a
            picture as input, as for inpainting.
        RequestError: The device or the dtype is not available.
        MachineError: The model does not fit into the memory of the device.
    """
    chosen_device = choose_device(device)
    options = {
        "dtype": _choose_dtype(dtype, chosen_device),
        "local_files_only": True,
        **spec.family.pipeline_options,
    }
    with silence_libraries():
        try:
            pipe = _read(path, spec, config, tensors, options)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
            raise CheckpointError(
                f"cannot load checkpoint `{path}` as `{spec.family.name}`: {_first_line(error)}"
            ) from error
        _check_channels(path, pipe, spec)
        _check_complete(path, pipe, spec, holds)
        pipe.set_progress_bar_config(disable=True)
        _move(pipe, chosen_device, path)
    loaded = Pipeline(pipe, spec, PromptEncoder(pipe, spec))
    if loaded.has_latents:
        pipe.vae.enable_slicing()  # one picture at a time, so a large batch needs no more memory
    return loaded


def _read(
    path: Path, spec: ModelSpec, config: Path, tensors: Tensors, options: dict[str, Any]
) -> DiffusionPipeline:
    pipeline_class = getattr(diffusers, spec.family.pipeline)
    if path.is_dir():
        options = {"use_safetensors": True, **_piece_tokenizers(path, spec), **options}
        variant = _variant(path, spec.network)
        return pipeline_class.from_pretrained(path, variant=variant, **options)
    return _read_single_file(pipeline_class, path, spec, config, tensors, options)


def _read_single_file(
    pipeline_class: Any,
    path: Path,
    spec: ModelSpec,
    config: Path,
    tensors: Tensors,
    options: dict[str, Any],
) -> DiffusionPipeline:
    """
    Load a single file with the diffusers class `pipeline_class`.

    The text encoders are built here from the tensors of the file, because diffusers recognises only
    some of the names that files use for them.
    """
    encoders = {
        encoder.component: _encoder(encoder, config, tensors, options["dtype"])
        for encoder in spec.context.encoders
    }
    return pipeline_class.from_single_file(
        str(path), config=str(config), **encoders, **_packaged_tokenizers(config), **options
    )


def _encoder(encoder: TextEncoderSpec, config: Path, tensors: Tensors, dtype: Any) -> CLIPTextModel:
    encoder_class = CLIPTextModelWithProjection if encoder.has_projection else CLIPTextModel
    return encoder_class.from_pretrained(
        None,
        config=encoder_class.config_class.from_pretrained(config / encoder.component),
        state_dict=dict(tensors(encoder.component)),
        dtype=dtype,
    )


def _packaged_tokenizers(config: Path) -> dict[str, CLIPTokenizer]:
    """Return the CLIP tokenizers of a configuration folder without vocabularies."""
    files = {"vocab": str(registry.CLIP_VOCABULARY), "merges": str(registry.CLIP_MERGES)}
    return {
        settings.parent.name: CLIPTokenizer(**files, **json.loads(settings.read_text("utf-8")))
        for settings in sorted(config.glob("tokenizer*/tokenizer_config.json"))
        if not (settings.parent / "vocab.json").exists()
    }


def _piece_tokenizers(folder: Path, spec: ModelSpec) -> dict[str, PreTrainedTokenizerFast]:
    """
    Return the tokenizers that a folder holds only as sentencepiece models.

    Transformers would need the sentencepiece library, which may not be installed.
    """
    return {
        encoder.tokenizer: PreTrainedTokenizerFast(
            tokenizer_object=load_tokenizer(
                folder / encoder.tokenizer, encoder.kind, encoder.n_tokens
            ).backend,
            eos_token="</s>",
            pad_token="<pad>",
            unk_token="<unk>",
            model_max_length=encoder.n_tokens,
        )
        for encoder in spec.context.encoders
        if (folder / encoder.tokenizer / "spiece.model").is_file()
        and not (folder / encoder.tokenizer / "tokenizer.json").is_file()
    }


def _check_channels(path: Path, pipe: DiffusionPipeline, spec: ModelSpec) -> None:
    n_channels = getattr(pipe, spec.network).config.in_channels
    n_expected = spec.family.n_channels
    if n_channels != n_expected:
        raise CheckpointError(
            f"checkpoint `{path}` needs a picture as input, as inpainting models do: its "
            f"{spec.family.network.title} reads {n_channels} channels, not {n_expected}"
        )


def _check_complete(
    path: Path, pipe: DiffusionPipeline, spec: ModelSpec, holds: Callable[[str, str], bool]
) -> None:
    missing = [
        f"{part}/{name}"
        for part in spec.parts
        for name in _missing_tensors(getattr(pipe, part), partial(holds, part))
    ]
    if missing:
        raise CheckpointError(
            f"checkpoint `{path}` lacks {len(missing)} tensors, including `{missing[0]}`"
        )


def _missing_tensors(module: nn.Module, holds: Callable[[str], bool]) -> list[str]:
    """Return the tensors that the files lack, counting tied tensors as one."""
    tensors = module.state_dict()
    held = {value.data_ptr() for name, value in tensors.items() if holds(name)}
    return [name for name, value in tensors.items() if value.data_ptr() not in held]


def _move(pipe: DiffusionPipeline, device: str, path: Path) -> None:
    try:
        pipe.to(device)
    except torch.cuda.OutOfMemoryError as error:
        raise MachineError(
            f"the device does not have enough memory for `{path.name}`",
            "use `--dtype float16` or `--device cpu`",
        ) from error
    for part in pipe.components.values():
        for parameter in part.parameters() if isinstance(part, nn.Module) else ():
            # tensors of a mapped file may be unaligned, which changes the order of rounding
            if parameter.data_ptr() % _ALIGNMENT_BYTES:
                parameter.data = parameter.data.clone()


def _variant(root: Path, network: str) -> str | None:
    """Return the variant of the network, such as `fp16`, or None if it has a plain file."""
    stem, folder = "diffusion_pytorch_model", root / network
    if any((folder / f"{stem}.safetensors{end}").exists() for end in ("", ".index.json")):
        return None
    shard = r"(?:-\d+-of-\d+)?"
    names = (
        re.fullmatch(rf"{stem}{shard}\.([^.]+?){shard}\.safetensors", file.name)
        for file in sorted(folder.glob(f"{stem}*.safetensors"))
    )
    return next((name[1] for name in names if name), None)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
