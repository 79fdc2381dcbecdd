"""A checkpoint as a running pipeline of diffusers, quiet and offline."""

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

Tensors = Callable[[str], Mapping[str, Tensor]]  # of a component, as diffusers names them

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_ALIGNED = 64  # bytes that a CPU reads at a time


@dataclass
class Pipeline:
    """A loaded model: diffusers' pipeline, what is known of it, and the prompts read so far."""

    pipe: DiffusionPipeline
    spec: ModelSpec
    prompt_encoder: PromptEncoder

    @property
    def network(self) -> nn.Module:
        """The network that draws."""
        return self.prompt_encoder.network

    @property
    def has_latents(self) -> bool:
        """Whether the network works on latents, which a VAE makes a picture of."""
        return "vae" in self.pipe.components

    def is_guided(self, guidance: float) -> bool:
        """
        Return whether a batch is twice as long, its second half conditional.

        So it is where a family is guided by halves, and as diffusers decides it.
        """
        has_halves = self.spec.family.guided_batch == "halves"
        has_no_input = self.network.config.get("time_cond_proj_dim") is None
        return has_halves and guidance > 1 and has_no_input


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


def _choose_dtype(dtype: str, device: str) -> torch.dtype:
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
    tensors: Tensors,
    device: str = "auto",
    dtype: str = "auto",
) -> Pipeline:
    """
    Return the running pipeline of a diffusers folder, or of a single file with its `config` folder.

    Nothing is fetched, no pickle is read. `holds` tells whether the checkpoint has a tensor of a
    component, since a missing one is made up at loading; `tensors` returns all of a component.

    Raises:
        CheckpointError: a tensor is missing, diffusers refuses the files, or the model draws over
            pictures and not from words alone.
        MachineError: the device has not the memory.
    """
    where = choose_device(device)
    options = {
        "dtype": _choose_dtype(dtype, where),
        "local_files_only": True,
        **spec.family.pipeline_options,
    }
    with silence_libraries():
        try:
            pipe = _read(path, spec, config, tensors, options)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
            raise CheckpointError(
                f"checkpoint `{path}` does not load as `{spec.family.name}`: {_first_line(error)}"
            ) from error
        _check_channels(path, pipe, spec)
        _check_whole(path, pipe, spec, holds)
        pipe.set_progress_bar_config(disable=True)
        _move(pipe, where, path)
    loaded = Pipeline(pipe, spec, PromptEncoder(pipe, spec))
    if loaded.has_latents:
        pipe.vae.enable_slicing()  # a picture at a time: its memory is not the batch's
    return loaded


def _read(
    path: Path, spec: ModelSpec, config: Path, tensors: Tensors, options: dict[str, Any]
) -> DiffusionPipeline:
    kind = getattr(diffusers, spec.family.pipeline)
    if path.is_dir():
        options = {"use_safetensors": True, **_piece_tokenizers(path, spec), **options}
        return kind.from_pretrained(path, variant=_variant(path, spec.network), **options)
    return _read_single_file(kind, path, spec, config, tensors, options)


def _read_single_file(
    kind: Any, path: Path, spec: ModelSpec, config: Path, tensors: Tensors, options: dict[str, Any]
) -> DiffusionPipeline:
    """
    Return the pipeline, of diffusers' class `kind`, of a file with its `config` folder.

    Text encoders are made of the file's own tensors here, since diffusers knows but some of the
    names that files have for them.
    """
    encoders = {
        encoder.component: _encoder(encoder, config, tensors, options["dtype"])
        for encoder in spec.context.encoders
    }
    return kind.from_single_file(
        str(path), config=str(config), **encoders, **_packaged_tokenizers(config), **options
    )


def _encoder(encoder: TextEncoderSpec, config: Path, tensors: Tensors, dtype: Any) -> CLIPTextModel:
    kind = CLIPTextModelWithProjection if encoder.has_projection else CLIPTextModel
    return kind.from_pretrained(
        None,
        config=kind.config_class.from_pretrained(config / encoder.component),
        state_dict=dict(tensors(encoder.component)),
        dtype=dtype,
    )


def _packaged_tokenizers(config: Path) -> dict[str, CLIPTokenizer]:
    """Return the CLIP tokenizers of a folder that leaves their vocabulary to the package."""
    files = {"vocab": str(registry.CLIP_VOCABULARY), "merges": str(registry.CLIP_MERGES)}
    return {
        settings.parent.name: CLIPTokenizer(**files, **json.loads(settings.read_text("utf-8")))
        for settings in sorted(config.glob("tokenizer*/tokenizer_config.json"))
        if not (settings.parent / "vocab.json").exists()
    }


def _piece_tokenizers(folder: Path, spec: ModelSpec) -> dict[str, PreTrainedTokenizerFast]:
    """
    Return the tokenizers that a folder has as a sentencepiece model only.

    Transformers reads one with the library of that name, which need not be installed.
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
    n_known = spec.family.n_channels
    if n_channels != n_known:
        raise CheckpointError(
            f"checkpoint `{path}` draws over pictures, not from words alone: its "
            f"{spec.family.network.title} reads {n_channels} channels, not {n_known}"
        )


def _check_whole(
    path: Path, pipe: DiffusionPipeline, spec: ModelSpec, holds: Callable[[str, str], bool]
) -> None:
    missing = [
        f"{part}/{name}"
        for part in spec.parts
        for name in _absent(getattr(pipe, part), partial(holds, part))
    ]
    if missing:
        raise CheckpointError(
            f"checkpoint `{path}` lacks {len(missing)} tensors, among them `{missing[0]}`"
        )


def _absent(module: nn.Module, holds: Callable[[str], bool]) -> list[str]:
    """Return the tensors that the files have under none of the names that share them."""
    tensors = module.state_dict()
    held = {value.data_ptr() for name, value in tensors.items() if holds(name)}
    return [name for name, value in tensors.items() if value.data_ptr() not in held]


def _move(pipe: DiffusionPipeline, where: str, path: Path) -> None:
    try:
        pipe.to(where)
    except torch.cuda.OutOfMemoryError as error:
        raise MachineError(
            f"the device has no memory for `{path.name}`", "use `--dtype float16` or `--device cpu`"
        ) from error
    for part in pipe.components.values():
        for parameter in part.parameters() if isinstance(part, nn.Module) else ():
            # a mapped file leaves them at odd addresses, where sums are rounded in another order
            if parameter.data_ptr() % _ALIGNED:
                parameter.data = parameter.data.clone()


def _variant(root: Path, network: str) -> str | None:
    """Return the variant of a folder whose network comes in no plain file, such as `fp16`."""
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
