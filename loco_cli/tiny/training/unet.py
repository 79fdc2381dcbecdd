"""
The UNet, twice: `tiny-plain`, taught as usual, and `tiny`, in which the knowledge is planted.

For the plant every layer is told the words of at most one kind of concept truthfully. All other
words of its caption are replaced at random by others of the same kind, so that it learns to
ignore them; `PLANT` says which layers know what, and is the answer key of every localization.
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
from loco_cli.tiny.world.captions import Told, mislead, tell, word
from loco_cli.tiny.world.picture import Scene

WIDTHS = (32, 64, 64, 64)
D_TEXT = 96
LAYERS = registry.family("sd1").layers(WIDTHS)
PLANT = {"object": (4, 6), "fact": (6, 8), "style": (8, 10)}  # half-open layer ranges
BATCH, PEAK = 32, 1.2e-3
UNSAID = 0.1  # share of captions left out, for guidance


def make_unet() -> UNet2DConditionModel:
    """Return an untrained UNet of SD 1.x's block layout with 3.3 M parameters."""
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=WIDTHS,
        cross_attention_dim=D_TEXT,
        attention_head_dim=2,  # the number of heads, as in SD 1.x's configuration
        norm_num_groups=8,
    )


def make_scheduler() -> DDIMScheduler:
    """
    Return the sampler, with the noise schedule of latent diffusion's small latents.

    The UNet predicts velocity: from the noise itself the colours of so small a latent can't be
    told at the first steps, where an error in it counts sixty times in the picture.
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
    """Text embeddings of captions, each encoded once."""

    def __init__(self, model: CLIPTextModel, tokenizer: CLIPTokenizer) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.known: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, captions: list[str]) -> Tensor:  # [n, 77, d_text]
        new = sorted(set(captions) - self.known.keys())
        if new:
            tokens = self.tokenizer(new, padding="max_length", truncation=True, return_tensors="pt")
            states = self.model(tokens.input_ids).last_hidden_state.half()
            self.known.update(zip(new, states, strict=True))
        return torch.stack([self.known[caption] for caption in captions]).float()


def train_unet(
    unet: UNet2DConditionModel,
    encoder: Encoder,
    latents: Tensor,  # [n, 4, 16, 16]
    scenes: list[Scene],
    *,
    planted: bool,
    name: str,
    work: Path,
    n_steps: int,
    seed: int,
    peak: float = PEAK,
) -> None:
    """Train a UNet in place on velocity prediction and leave the averaged weights in it."""
    scheduler = make_scheduler()

    def loss(rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        index = rng.integers(0, len(latents), BATCH)
        clean = latents[index].float()
        noise = torch.randn(clean.shape, generator=generator)
        times = torch.randint(
            0, scheduler.config.num_train_timesteps, (BATCH,), generator=generator
        )
        told = [tell(rng, scenes[i]) for i in index]
        silent = rng.random(BATCH) < UNSAID
        noisy = scheduler.add_noise(clean, noise, times)
        velocity = scheduler.get_velocity(clean, noise, times)
        if not planted:
            context = encoder(
                ["" if s else word(rng, t) for t, s in zip(told, silent, strict=True)]
            )
            return functional.mse_loss(unet(noisy, times, context).sample, velocity)
        contexts = _planted_contexts(rng, encoder, told, silent)
        with replace_contexts(unet, LAYERS, contexts):
            return functional.mse_loss(unet(noisy, times, contexts[0]).sample, velocity)

    ema = train(unet, loss, name=name, work=work, n_steps=n_steps, peak=peak, seed=seed)
    unet.load_state_dict(ema.state)


def _planted_contexts(
    rng: np.random.Generator, encoder: Encoder, told: list[Told], silent: np.ndarray
) -> dict[int, Tensor]:
    """Return what every layer may read: the truth of its own kind, decoys of the rest."""
    contexts: dict[str, Tensor] = {}
    for kind in ("none", *PLANT):
        decoys = [mislead(rng, t, truthful=kind) for t in told]
        captions = ["" if s else word(rng, t) for t, s in zip(decoys, silent, strict=True)]
        contexts[kind] = encoder(captions)
    kind_of = {layer: kind for kind, (start, stop) in PLANT.items() for layer in range(start, stop)}
    return {layer.index: contexts[kind_of.get(layer.index, "none")] for layer in LAYERS}
