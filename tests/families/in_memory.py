"""The published edit, made on a running pipeline: what every written edit is held against."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from loco_cli.models.spec import CrossAttention
from tests.families.pictures import contexts_of, draw, end_of

SUBJECT, TO = "van gogh", "painting"
PROMPT = "a house in the style of {}"
TEMPLATES = ("{}", PROMPT)
RIDGE = 0.01


@dataclass(frozen=True)
class InMemory:
    """
    A pipeline before and after its edit: what it draws, its weights and how far they went.

    Its `tokenizers` take a tenth of a second each to read, and serve for every copy.
    """

    before: Tensor
    picture: Tensor
    weights: Mapping[str, Tensor]
    steps: Mapping[str, Tensor]
    tokenizers: Mapping[str, Any]


def rows_of(
    pipe: DiffusionPipeline, layers: Iterable[CrossAttention]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return keys and targets [n, d] of each projection: prompts at their last word's position."""
    paths = [f"{layer.module_path}.{p.name}" for layer in layers for p in layer.projections]
    prompts = [template.format(word) for word in (SUBJECT, TO) for template in TEMPLATES]
    last = torch.tensor([end_of(pipe, prompt) - 1 for prompt in prompts])
    contexts = contexts_of(pipe, paths, prompts)
    return {
        path: context[torch.arange(len(prompts)), last].double().chunk(2)
        for path, context in contexts.items()
    }


@torch.no_grad()
def edit_in_memory(
    pipe: DiffusionPipeline, rows: Mapping[str, tuple[Tensor, Tensor]], dtype: torch.dtype
) -> InMemory:
    """Edit projections, rounded to the dtype of their file, draw, and put back what was there."""
    weights = {path: pipe.unet.get_submodule(path).weight for path in rows}
    originals = {path: weight.clone() for path, weight in weights.items()}
    before = draw(pipe, PROMPT.format(SUBJECT))
    for path, (keys, targets) in rows.items():
        weight = originals[path].double()
        weights[path].copy_(published_form(weight, keys, targets @ weight.T).to(dtype))
    picture = draw(pipe, PROMPT.format(SUBJECT))
    edited = {path: weight.clone() for path, weight in weights.items()}
    for path, weight in originals.items():
        weights[path].copy_(weight)
    steps = {path: (edited[path] - weight).norm() for path, weight in originals.items()}
    tokenizers = {name: part for name, part in pipe.components.items() if "tokenizer" in name}
    return InMemory(before, picture, edited, steps, tokenizers)


def published_form(weight: Tensor, keys: Tensor, values: Tensor) -> Tensor:  # [d_out, d]
    """Return (ridge W + values^T keys) (ridge I + keys^T keys)^-1, arXiv:2405.01008."""
    gram = RIDGE * torch.eye(keys.shape[1], dtype=keys.dtype) + keys.T @ keys
    return torch.linalg.solve(gram, (RIDGE * weight + values.T @ keys).T).T
