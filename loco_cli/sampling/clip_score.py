"""
CLIP score: the cosine between the embeddings of a picture and a caption.

As in the papers' released code, the score is neither scaled by 100 or 2.5 nor clipped at zero.
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
    A CLIP-like model with two towers, which embed pictures and captions in one space.

    Args:
        folder: A transformers folder with the model, its tokenizer and its image settings.
        device: The device that runs the model.
        name: The name of the scorer in documents, by default the name of the folder.

    Raises:
        ModelUnavailable: The folder does not hold a complete CLIP model.
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
        """Return the unit embeddings of pictures, resized to the input size of the model."""
        if images.shape[-2:] != (self.side, self.side):
            images = functional.interpolate(
                images, (self.side, self.side), mode="bicubic", antialias=True
            ).clamp(0, 1)
        pixels = (images - self.mean) / self.std
        features = self.model.get_image_features(pixel_values=pixels.to(self.model.device))
        return functional.normalize(features.pooler_output, dim=-1).cpu()

    @torch.no_grad()
    def embed_captions(self, captions: Sequence[str]) -> Tensor:  # [n, d]
        """Return the unit embeddings of captions, computed once per caption."""
        for caption in dict.fromkeys(captions):
            if caption not in self.caption_embeddings:
                tokens = self.tokenizer(caption, truncation=True, return_tensors="pt")
                features = self.model.get_text_features(**tokens.to(self.model.device))
                unit = functional.normalize(features.pooler_output, dim=-1)
                self.caption_embeddings[caption] = unit[0].cpu()
        return torch.stack([self.caption_embeddings[caption] for caption in captions])

    def scores(self, images: Tensor, captions: Sequence[str]) -> list[float]:
        """Return the cosine between each picture [n, 3, h, w] and its own caption."""
        return (self.embed_images(images) * self.embed_captions(captions)).sum(1).tolist()

    def best_label(self, images: Tensor, labels: Sequence[str]) -> list[int]:
        """Return the index of the closest label for each picture."""
        return (self.embed_images(images) @ self.embed_captions(labels).T).argmax(1).tolist()


def _load(folder: Path) -> tuple[Any, CLIPTokenizer]:
    try:
        model, loading_info = AutoModel.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelUnavailable(f"scorer `{folder}` holds no readable CLIP model") from error
    if not hasattr(model, "get_image_features") or loading_info["missing_keys"]:
        raise ModelUnavailable(f"scorer `{folder}` is not a complete CLIP model")
    return model, tokenizer


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "preprocessor_config.json"
    try:
        settings: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise ModelUnavailable(f"`{path}` is not valid JSON") from error
    return settings
