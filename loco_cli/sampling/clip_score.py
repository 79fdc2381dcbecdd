"""
CLIP score: the cosine of a picture's and a caption's embedding.

Not multiplied by 100 or 2.5 and not clipped at zero, as in the papers' released code.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel, CLIPTokenizer

from loco_cli.errors import ModelUnavailable

_CLIP_MEAN, _CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


class ClipScorer:
    """
    A CLIP-like model of two towers: pictures and captions to unit vectors of one space.

    `name` is what documents call it. Raises ModelUnavailable where the folder holds no such model.
    """

    def __init__(self, folder: Path, device: str = "cpu", name: str | None = None) -> None:
        self.name = name or folder.name
        self.model, self.tokenizer = _load(folder)
        self.model = self.model.eval().to(device)
        settings = _settings(folder)
        self.mean = torch.tensor(settings.get("image_mean", _CLIP_MEAN)).view(3, 1, 1)
        self.std = torch.tensor(settings.get("image_std", _CLIP_STD)).view(3, 1, 1)
        self.side = self.model.config.vision_config.image_size
        self.caption_embeddings: dict[str, Tensor] = {}

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:  # [n, 3, h, w], 0 to 1 -> [n, d]
        """Return unit vectors of pictures, resized to what the model sees."""
        if images.shape[-2:] != (self.side, self.side):
            images = functional.interpolate(
                images, (self.side, self.side), mode="bicubic", antialias=True
            ).clamp(0, 1)
        pixels = (images - self.mean) / self.std
        features = self.model.get_image_features(pixel_values=pixels.to(self.model.device))
        return functional.normalize(features.pooler_output, dim=-1).cpu()

    @torch.no_grad()
    def embed_captions(self, captions: Sequence[str]) -> Tensor:  # [n, d]
        """Return unit vectors of captions, each embedded once."""
        for caption in dict.fromkeys(captions):
            if caption not in self.caption_embeddings:
                tokens = self.tokenizer(caption, truncation=True, return_tensors="pt")
                features = self.model.get_text_features(**tokens.to(self.model.device))
                unit = functional.normalize(features.pooler_output, dim=-1)
                self.caption_embeddings[caption] = unit[0].cpu()
        return torch.stack([self.caption_embeddings[caption] for caption in captions])

    def scores(self, images: Tensor, captions: Sequence[str]) -> list[float]:
        """Return the cosine of each picture [n, 3, h, w] with its own caption."""
        return (self.embed_images(images) * self.embed_captions(captions)).sum(1).tolist()

    def best_label(self, images: Tensor, labels: Sequence[str]) -> list[int]:
        """Return for each picture the index of the label that fits best."""
        return (self.embed_images(images) @ self.embed_captions(labels).T).argmax(1).tolist()


def _load(folder: Path) -> tuple[Any, CLIPTokenizer]:
    try:
        model, found = AutoModel.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelUnavailable(f"scorer `{folder}` holds no CLIP model that can be read") from error
    if not hasattr(model, "get_image_features") or found["missing_keys"]:
        raise ModelUnavailable(f"scorer `{folder}` is not a whole CLIP model")
    return model, tokenizer


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "preprocessor_config.json"
    try:
        settings: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise ModelUnavailable(f"`{path}` is no JSON") from error
    return settings
