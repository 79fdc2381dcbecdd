"""The layouts of a small model on disk, each as a function of a folder."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.families import original
from tests.families.original import cast, original_tensors, unet_names
from tests.families.small import SmallModel

F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
_STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}


Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """
    A layout of a model on disk.

    `write` writes the model to an empty folder and returns its path. `spell` maps diffusers names
    of UNet tensors to their names in the files. `dtypes` holds the dtype of each variant, and
    `kind` selects the loader.
    """

    write: Callable[[Path, SmallModel], Path]
    spell: Callable[[SmallModel, Iterable[str]], set[str]]
    kind: str
    dtypes: Mapping[str | None, torch.dtype]


def in_folder(*dtypes: torch.dtype, variant: str | None = None, n_shards: int = 1) -> Layout:
    """Return the layout of a diffusers folder; see `write_folder`."""
    write = partial(_folder, dtypes=dtypes, variant=variant, n_shards=n_shards)
    names = (variant, "fp16")[: len(dtypes)]
    return Layout(write, _as_diffusers, "folder", dict(zip(names, dtypes, strict=True)))


def in_hub_cache(*dtypes: torch.dtype, n_shards: int = 1) -> Layout:
    """Return a folder layout with links to blobs, as in the hub's cache."""
    names = dict(zip((None, "fp16"), dtypes, strict=False))
    return Layout(partial(_links, dtypes=dtypes, n_shards=n_shards), _as_diffusers, "folder", names)


def in_file(dtype: torch.dtype, change: Callable[[Tensors], Tensors] = dict) -> Layout:
    """Return the single-file layout, with its tensors transformed by `change`."""
    # diffusers loads only the UNet of these files
    kinds = {original.only_unet: "unet", original.as_novelai: "unet"}
    spell = _with_ema if change is original.with_ema else _as_original
    write = partial(_file, dtype=dtype, change=change)
    return Layout(write, spell, kinds.get(change, "file"), {None: dtype})


def in_unet_file(dtype: torch.dtype) -> Layout:
    """Return the layout of a UNet file with diffusers' names."""
    return Layout(partial(_unet, dtype=dtype), _as_diffusers, "unet", {None: dtype})


def write_folder(
    root: Path,
    model: SmallModel,
    *dtypes: torch.dtype,
    variant: str | None = None,
    n_shards: int = 1,
) -> Path:
    """Write a diffusers folder; `variant` names the first dtype, and `fp16` the second."""
    model.write_configs(root)
    for n, dtype in enumerate(dtypes):
        for part, tensors in model.tensors.items():
            is_sharded = part == "unet" or part.startswith("text_encoder")
            _write_part(
                root / part,
                _STEMS.get(part, "model"),
                "fp16" if n else variant,
                cast(tensors, dtype),
                n_shards if is_sharded else 1,
            )
    return root


def _folder(root: Path, model: SmallModel, *, dtypes: tuple[torch.dtype, ...], **kw: Any) -> Path:
    return write_folder(root / "model", model, *dtypes, **kw)


def _links(root: Path, model: SmallModel, **how: Any) -> Path:
    snapshot, blobs = _folder(root, model, **how), root / "blobs"
    blobs.mkdir()
    for n, file in enumerate([path for path in snapshot.rglob("*") if path.is_file()]):
        file.rename(blobs / str(n))
        file.symlink_to(blobs / str(n))
    return snapshot


def _file(
    root: Path, model: SmallModel, *, dtype: torch.dtype, change: Callable[[Tensors], Tensors]
) -> Path:
    tensors = change(original_tensors(model))
    return original.write_file(root / "model.safetensors", tensors, dtype)


def _unet(root: Path, model: SmallModel, *, dtype: torch.dtype) -> Path:
    return original.write_file(root / "unet.safetensors", model.tensors["unet"], dtype)


def _as_diffusers(model: SmallModel, names: Iterable[str]) -> set[str]:
    return set(names)


def _as_original(model: SmallModel, names: Iterable[str]) -> set[str]:
    return {unet_names(model.name)[name] for name in names}


def _with_ema(model: SmallModel, names: Iterable[str]) -> set[str]:
    own = _as_original(model, names)
    return own | {original.ema_name(name) for name in own}


def _write_part(
    folder: Path, stem: str, variant: str | None, tensors: Mapping[str, Tensor], n_shards: int
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{stem}.{variant}" if variant else stem
    if n_shards == 1:
        save_file(dict(tensors), folder / f"{name}.safetensors", {"format": "pt"})
        return
    weight_map = {}
    for shard in range(n_shards):
        file = f"{name}-{shard + 1:05}-of-{n_shards:05}.safetensors"
        own = dict(list(tensors.items())[shard::n_shards])
        save_file(own, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(own, file)
    n_bytes = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": n_bytes}, "weight_map": weight_map}
    ending = f"index.{variant}.json" if variant else "index.json"
    (folder / f"{stem}.safetensors.{ending}").write_text(json.dumps(index), encoding="utf-8")
