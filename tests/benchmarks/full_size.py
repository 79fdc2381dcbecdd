"""
Full-size checkpoints with random weights, as single files in the original layout.

    python -m tests.benchmarks.full_size sdxl FILE CONFIG [--small]

The names are those of the small models of the tests, which diffusers loads. Weights are normal
numbers of one long block, begun elsewhere for each tensor; norms are near 1, so that the text
encoders tell their prompts apart. CONFIG becomes the folder that diffusers needs beside the file.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from torch import Tensor

from loco_cli.checkpoint.header import TensorInfo, render_header
from loco_cli.families import registry
from tests.families.original import original_tensors
from tests.families.small import SmallModel, small_model

_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
_BLOCK = (4 << 20) - 3  # odd, so that no row of a matrix begins where another did
_SPREAD = 0.02


def full_model(name: str) -> SmallModel:
    """Return a model by its packaged configuration, its tensors without their numbers."""
    folder = registry.config_folder(registry.get(name))
    assert folder
    configs = {
        path.relative_to(folder).as_posix(): json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.rglob("*.json"))
    }
    tensors = {
        part: _shapes(configs["model_index.json"][part], configs[f"{part}/config.json"])
        for part in _PARTS
        if part in configs["model_index.json"]
    }
    return SmallModel(name, registry.get(name).family.name, tensors, configs)


def write_file(path: Path, model: SmallModel, dtype: str = "F16") -> None:
    """Write a model's single file, its tensors in the order of their names, as libraries do."""
    tensors = dict(sorted(original_tensors(model).items()))
    infos, begin = [], 0
    for name, tensor in tensors.items():
        kind = dtype if tensor.is_floating_point() else "I64"
        end = begin + tensor.numel() * (2 if kind == "F16" else 8)
        infos.append(TensorInfo(name, kind, tuple(tensor.shape), begin, end))
        begin = end
    metadata = {"format": "pt", "modelspec.title": f"Random numbers in the shape of {model.name}"}
    rng = np.random.default_rng(0)
    noise = (_SPREAD * rng.standard_normal(_BLOCK, np.float32)).astype(np.float16)
    with path.open("wb") as file:
        file.write(render_header(infos, metadata))
        for info in infos:
            for content in _contents(info, noise, int(rng.integers(_BLOCK))):
                file.write(memoryview(content).cast("B"))


def _contents(info: TensorInfo, noise: np.ndarray, begin: int) -> Iterator[np.ndarray]:
    left = (info.end - info.begin) // (2 if info.dtype == "F16" else 8)
    if info.dtype == "I64":
        yield np.arange(left)
        return
    is_norm = len(info.shape) == 1 and info.name.endswith(".weight")
    while left:
        content = noise[begin : begin + left]
        yield content + np.float16(1) if is_norm else content
        left, begin = left - len(content), 0


def _shapes(kind: list[str], config: Mapping[str, Any]) -> dict[str, Tensor]:
    library = diffusers if kind[0] == "diffusers" else transformers
    module = getattr(library, kind[1])
    with torch.device("meta"):
        if library is diffusers:
            return module.from_config(config).state_dict()
        state = module(module.config_class(**config)).state_dict()
    # published names have a prefix that `CLIPTextModel` has lost
    return {
        name if name.startswith("text_") else f"text_model.{name}": state[name] for name in state
    }


def main() -> None:
    """Write the file and its configuration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("file", type=Path)
    parser.add_argument("config", type=Path)
    parser.add_argument("--small", action="store_true", help="reduced widths")
    args = parser.parse_args()
    model = small_model(args.model) if args.small else full_model(args.model)
    model.write_configs(args.config)
    write_file(args.file, model)


if __name__ == "__main__":
    main()
