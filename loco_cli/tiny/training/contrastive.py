"""The scorer and the judge: CLIP models trained on pictures and captions of the world."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from loco_cli.tiny.training.loop import train
from loco_cli.tiny.training.tokenizer import N_POSITIONS
from loco_cli.tiny.training.vae import to_tensor
from loco_cli.tiny.world.captions import Caption, draw_caption, matches, word_caption
from loco_cli.tiny.world.picture import Scene

BATCH_SIZE, PEAK_RATE = 96, 1e-3


def make_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Return an untrained scorer: two towers of 4 layers of width 96, with patches of 8 pixels."""
    return _make(tokenizer, text=(96, 4), vision=(96, 4), patch=8)


def make_judge(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Return an untrained judge: a smaller text tower, and a vision tower with larger patches."""
    return _make(tokenizer, text=(64, 2), vision=(96, 3), patch=16)


def _make(
    tokenizer: CLIPTokenizer, *, text: tuple[int, int], vision: tuple[int, int], patch: int
) -> CLIPModel:
    shape = {"num_attention_heads": 4, "projection_dim": 96, "hidden_act": "quick_gelu"}
    return CLIPModel(
        CLIPConfig(
            text_config={
                **shape,
                "vocab_size": len(tokenizer),
                "hidden_size": text[0],
                "intermediate_size": 4 * text[0],
                "num_hidden_layers": text[1],
                "max_position_embeddings": N_POSITIONS,
                "bos_token_id": tokenizer.bos_token_id,
                "eos_token_id": tokenizer.eos_token_id,
                "pad_token_id": tokenizer.pad_token_id,
            },
            vision_config={
                **shape,
                "image_size": 64,
                "patch_size": patch,
                "hidden_size": vision[0],
                "intermediate_size": 4 * vision[0],
                "num_hidden_layers": vision[1],
            },
            projection_dim=96,
        )
    )


def _truth(captions: list[Caption], scenes: list[Scene]) -> Tensor:
    """Return a matrix [n, n] with 1 where a caption (row) is true of a picture (column)."""
    return torch.tensor([[float(matches(c, s)) for s in scenes] for c in captions])


def _contrastive_loss(logits: Tensor, true: Tensor) -> Tensor:
    """Return the mean cross-entropy of both directions; true pairs of a row share its target."""
    by_text = -(true / true.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()
    by_image = -(true / true.sum(0, keepdim=True) * logits.log_softmax(0)).sum(0).mean()
    return (by_text + by_image) / 2


def train_contrastive(
    model: nn.Module,
    tokenizer: CLIPTokenizer,
    pictures: NDArray[np.uint8],
    scenes: list[Scene],
    *,
    name: str,
    work: Path,
    n_steps: int,
    seed: int,
    peak: float = PEAK_RATE,
) -> None:
    """Train a scorer or judge in place; it ends with the averaged weights."""

    def loss(rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        index = np.sort(rng.integers(0, len(pictures), BATCH_SIZE))
        captions = [draw_caption(rng, scenes[i]) for i in index]
        texts = [word_caption(rng, caption) for caption in captions]
        # only the state of the end token is used, and no padding token can affect it
        tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        batch = to_tensor(pictures[index])
        # noise stands in for the errors of the decoder
        batch = batch + 0.06 * torch.randn(batch.shape, generator=generator)
        output = model(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, pixel_values=batch
        )
        return _contrastive_loss(
            output.logits_per_text, _truth(captions, [scenes[i] for i in index])
        )

    ema = train(model, loss, name=name, work=work, n_steps=n_steps, peak=peak, seed=seed)
    model.load_state_dict(ema.state)
