"""The autoencoder: 64 x 64 x 3 pictures to 16 x 16 x 4 latents and back."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from loco_cli.tiny.training.loop import train

KL_WEIGHT = 1e-6


def to_tensor(pictures: NDArray[np.uint8]) -> Tensor:  # [n, h, w, 3] -> [n, 3, h, w], -1 to 1
    """Return pictures as the models read them."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def make_vae(scaling_factor: float = 1.0) -> AutoencoderKL:
    """Return an untrained autoencoder of 0.6 M parameters."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=64,
        scaling_factor=scaling_factor,
    )


def train_vae(
    work: Path, pictures: NDArray[np.uint8], n_steps: int, seed: int = 10
) -> AutoencoderKL:
    """Train on pictures [n, 64, 64, 3] and set the latents' scale to one."""
    torch.manual_seed(seed)
    vae = make_vae()

    def loss(rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        batch = to_tensor(pictures[np.sort(rng.integers(0, len(pictures), 24))])
        posterior = vae.encode(batch).latent_dist
        back = vae.decode(posterior.sample(generator)).sample
        edges = sum(
            (torch.diff(back, dim=d) - torch.diff(batch, dim=d)).abs().mean() for d in (2, 3)
        )
        error = (back - batch).abs().mean() + functional.mse_loss(back, batch) + 0.5 * edges
        return error + KL_WEIGHT * posterior.kl().mean()

    ema = train(vae, loss, name="vae", work=work, n_steps=n_steps, peak=2e-3, seed=seed)
    vae.load_state_dict(ema.state)
    with torch.no_grad():
        sample = vae.encode(to_tensor(pictures[:512])).latent_dist.mean
    vae.register_to_config(scaling_factor=round(1 / sample.std().item(), 5))
    return vae


@torch.no_grad()
def encode_pictures(vae: AutoencoderKL, pictures: NDArray[np.uint8], batch: int = 128) -> Tensor:
    """Return scaled latents [n, 4, 16, 16] of pictures [n, 64, 64, 3], in float16."""
    parts = [
        vae.encode(to_tensor(pictures[i : i + batch])).latent_dist.mean * vae.config.scaling_factor
        for i in range(0, len(pictures), batch)
    ]
    return torch.cat(parts).half()
