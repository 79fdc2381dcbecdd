"""
The UNets: `tiny-plain`, trained as usual, and `tiny`, with knowledge planted in known layers.

To plant knowledge, each layer reads a caption that is true for at most one kind of concept. Random
words of the same kind replace all others, so that the layer learns to ignore them. `PLANT` has the
layers of each kind; it is the answer key of every localization.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from loco_cli.families import registry
from loco_cli.sampling.hooks import replace_contexts
from loco_cli.tiny.training.loop import train
from loco_cli.tiny.world.captions import (
    Caption,
    draw_caption,
    draw_decoy,
    word_caption,
)
from loco_cli.tiny.world.picture import Scene

WIDTHS = (32, 64, 64, 64)
D_TEXT = 96
LAYERS = registry.family("sd1").layers(WIDTHS)
PLANT = {"object": (4, 6), "fact": (6, 8), "style": (8, 10)}  # half-open layer ranges
BATCH_SIZE, PEAK_RATE = 32, 1.2e-3
EMPTY_CAPTION_SHARE = 0.1  # for classifier-free guidance


def make_unet() -> UNet2DConditionModel:
    """Return an untrained UNet with the block layout of SD 1.x and 3.3 M parameters."""
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=WIDTHS,
        cross_attention_dim=D_TEXT,
        attention_head_dim=2,  # the number of heads, as in SD 1.x's configuration
        norm_num_groups=8,
    )


def make_scheduler() -> DDIMScheduler:
    """
    Return the sampler, with the noise schedule that latent diffusion uses for small latents.

    The UNet predicts velocity. If it predicted the noise, errors of the first steps would appear
    sixty times larger in the picture, and the colours of such a small latent would be lost.
    """
    return DDIMScheduler(
        prediction_type="v_prediction",
        beta_start=0.0015,
        beta_end=0.0195,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


class Encoder:
    """A text encoder that caches the embedding of each caption."""

    def __init__(self, model: CLIPTextModel, tokenizer: CLIPTokenizer) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.cache: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, captions: list[str]) -> Tensor:  # [n, 77, d_text]
        new = sorted(set(captions) - self.cache.keys())
        if new:
            tokens = self.tokenizer(new, padding="max_length", truncation=True, return_tensors="pt")
            states = self.model(tokens.input_ids).last_hidden_state.half()
            self.cache.update(zip(new, states, strict=True))
        return torch.stack([self.cache[caption] for caption in captions]).float()


def train_unet(
    unet: UNet2DConditionModel,
    encoder: Encoder,
    latents: Tensor,  # [n, 4, 16, 16]
    scenes: list[Scene],
    *,
    is_planted: bool,
    name: str,
    work: Path,
    n_steps: int,
    seed: int,
    peak: float = PEAK_RATE,
) -> None:
    """Train a UNet in place to predict velocity; it ends with the averaged weights."""
    scheduler = make_scheduler()

    def loss(rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        index = rng.integers(0, len(latents), BATCH_SIZE)
        clean = latents[index].float()
        noise = torch.randn(clean.shape, generator=generator)
        times = torch.randint(
            0, scheduler.config.num_train_timesteps, (BATCH_SIZE,), generator=generator
        )
        captions = [draw_caption(rng, scenes[i]) for i in index]
        is_empty = rng.random(BATCH_SIZE) < EMPTY_CAPTION_SHARE
        noisy = scheduler.add_noise(clean, noise, times)
        velocity = scheduler.get_velocity(clean, noise, times)
        if not is_planted:
            context = encoder(_texts(rng, captions, is_empty))
            return functional.mse_loss(unet(noisy, times, context).sample, velocity)
        contexts = _planted_contexts(rng, encoder, captions, is_empty)
        with replace_contexts(unet, LAYERS, contexts):
            return functional.mse_loss(unet(noisy, times, contexts[0]).sample, velocity)

    ema = train(unet, loss, name=name, work=work, n_steps=n_steps, peak=peak, seed=seed)
    unet.load_state_dict(ema.state)


def _texts(rng: np.random.Generator, captions: list[Caption], is_empty: np.ndarray) -> list[str]:
    """Return a wording of each caption, or the empty prompt."""
    return [
        "" if empty else word_caption(rng, caption)
        for caption, empty in zip(captions, is_empty, strict=True)
    ]


def _planted_contexts(
    rng: np.random.Generator, encoder: Encoder, captions: list[Caption], is_empty: np.ndarray
) -> dict[int, Tensor]:
    """Return the context of every layer: true words for its own kind, decoys for the others."""
    contexts: dict[str, Tensor] = {}
    for kind in ("none", *PLANT):
        decoys = [draw_decoy(rng, caption, true_kind=kind) for caption in captions]
        contexts[kind] = encoder(_texts(rng, decoys, is_empty))
    kind_of = {layer: kind for kind, (start, stop) in PLANT.items() for layer in range(start, stop)}
    return {layer.index: contexts[kind_of.get(layer.index, "none")] for layer in LAYERS}
