"""The published edit, applied to a running pipeline as the reference for written edits."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

from loco_cli.families.spec import CrossAttention
from tests.families.pictures import contexts_of, draw, end_of

SUBJECT, TO = "van gogh", "painting"
PROMPT = "a house in the style of {}"
TEMPLATES = ("{}", PROMPT)
RIDGE = 0.01


@dataclass(frozen=True)
class InMemory:
    """
    An edit of a running pipeline: the new weights, and the norm of each change.

    All copies share its `tokenizers`, because loading one takes a tenth of a second.
    """

    pipe: DiffusionPipeline
    weights: Mapping[str, Tensor]
    steps: Mapping[str, Tensor]

    @property
    def tokenizers(self) -> dict[str, Any]:
        """The pipeline's tokenizers, by component."""
        return {name: part for name, part in self.pipe.components.items() if "tokenizer" in name}

    @cached_property
    def pictures(self) -> tuple[Tensor, Tensor]:
        """The pictures before and after the edit; the pipeline keeps its weights."""
        maps = {path: self.pipe.unet.get_submodule(path) for path in self.weights}
        originals = {path: module.weight.clone() for path, module in maps.items()}
        before = draw(self.pipe, PROMPT.format(SUBJECT))
        _put(maps, self.weights)
        after = draw(self.pipe, PROMPT.format(SUBJECT))
        _put(maps, originals)
        return before, after


def rows_of(
    pipe: DiffusionPipeline, layers: Iterable[CrossAttention]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return keys and targets [n, d] of each projection: the states of each prompt's last word."""
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
    """Return the edit of a pipeline's projections, rounded to the dtype of their file."""
    weights, steps = {}, {}
    for path, (keys, targets) in rows.items():
        weight = pipe.unet.get_submodule(path).weight
        new = published_form(weight.double(), keys, targets @ weight.double().T)
        weights[path] = new.to(dtype).to(weight.dtype)
        steps[path] = (weights[path] - weight).norm()
    return InMemory(pipe, weights, steps)


@torch.no_grad()
def _put(maps: Mapping[str, nn.Module], weights: Mapping[str, Tensor]) -> None:
    for path, weight in weights.items():
        maps[path].weight.copy_(weight)


def published_form(weight: Tensor, keys: Tensor, values: Tensor) -> Tensor:  # [d_out, d]
    """Return (ridge W + values^T keys) (ridge I + keys^T keys)^-1, arXiv:2405.01008."""
    gram = RIDGE * torch.eye(keys.shape[1], dtype=keys.dtype) + keys.T @ keys
    return torch.linalg.solve(gram, (RIDGE * weight + values.T @ keys).T).T
