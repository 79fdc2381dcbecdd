"""The autoencoder between 64 x 64 x 3 pictures and 16 x 16 x 4 latents."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from loco_cli.tiny.training.loop import train

BATCH_SIZE, PEAK_RATE = 24, 2e-3
DECODER_BATCH_SIZE, DECODER_PEAK_RATE = 32, 1e-3
KL_WEIGHT = 1e-6
LATENT_NOISE = 0.05  # standard deviation relative to the latents; a UNet leaves about as much


def to_tensor(pictures: NDArray[np.uint8]) -> Tensor:  # [n, h, w, 3] -> [n, 3, h, w], -1 to 1
    """Return pictures as model inputs."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _make_vae(scaling_factor: float = 1.0) -> AutoencoderKL:
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
    """Train on pictures [n, 64, 64, 3] and scale the latents to unit variance."""
    torch.manual_seed(seed)
    vae = _make_vae()

    def loss(rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        batch = to_tensor(pictures[np.sort(rng.integers(0, len(pictures), BATCH_SIZE))])
        posterior = vae.encode(batch).latent_dist
        back = vae.decode(posterior.sample(generator)).sample
        error = _pixel_error(back, batch) + 0.5 * _edge_error(back, batch)
        return error + KL_WEIGHT * posterior.kl().mean()

    ema = train(vae, loss, name="vae", work=work, n_steps=n_steps, peak=PEAK_RATE, seed=seed)
    vae.load_state_dict(ema.state)
    with torch.no_grad():
        sample = vae.encode(to_tensor(pictures[:512])).latent_dist.mean
    vae.register_to_config(scaling_factor=round(1 / sample.std().item(), 5))
    return vae


def train_decoder(
    work: Path, pictures: NDArray[np.uint8], latents: Tensor, n_steps: int, seed: int = 60
) -> AutoencoderKL:
    """
    Fine-tune the decoder of `work/vae` on scaled latents [n, 4, 16, 16] and return the result.

    The encoder does not change, so every UNet remains valid. Besides pixels and edges, the loss
    compares the strength of the edges in each patch. A blurred patch has weak edges, which this
    term penalizes even if their positions cannot be recovered.
    """
    vae = AutoencoderKL.from_pretrained(work / "vae")
    decoder = nn.ModuleDict({"post_quant_conv": vae.post_quant_conv, "decoder": vae.decoder})

    def loss(rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        index = np.sort(rng.integers(0, len(pictures), DECODER_BATCH_SIZE))
        batch, clean = to_tensor(pictures[index]), latents[torch.from_numpy(index)].float()
        noisy = clean + LATENT_NOISE * torch.randn(clean.shape, generator=generator)
        with torch.autocast("cpu", torch.bfloat16):  # halves the time
            back = vae.decode(noisy / vae.config.scaling_factor).sample
        back = back.float()
        edges = _edge_error(back, batch) + _edge_strength_error(back, batch)
        return _pixel_error(back, batch) + edges

    ema = train(
        decoder, loss, name="decoder", work=work, n_steps=n_steps, peak=DECODER_PEAK_RATE, seed=seed
    )
    decoder.load_state_dict(ema.state)
    return vae


def _pixel_error(back: Tensor, batch: Tensor) -> Tensor:
    """Return the mean absolute and squared error of pictures [n, 3, h, w]."""
    return (back - batch).abs().mean() + functional.mse_loss(back, batch)


def _edge_error(back: Tensor, batch: Tensor) -> Tensor:
    """Return the mean absolute error of the differences between neighbouring pixels."""
    return sum((torch.diff(back, dim=d) - torch.diff(batch, dim=d)).abs().mean() for d in (2, 3))


def _edge_strength_error(back: Tensor, batch: Tensor, patch: int = 4) -> Tensor:
    """Return the error of the mean absolute pixel difference in each patch."""
    return sum(
        functional.avg_pool2d(torch.diff(back, dim=d).abs(), patch)
        .sub(functional.avg_pool2d(torch.diff(batch, dim=d).abs(), patch))
        .abs()
        .mean()
        for d in (2, 3)
    )


@torch.no_grad()
def encode_pictures(vae: AutoencoderKL, pictures: NDArray[np.uint8], batch: int = 128) -> Tensor:
    """Return scaled latents [n, 4, 16, 16] of pictures [n, 64, 64, 3], in float16."""
    parts = [
        vae.encode(to_tensor(pictures[i : i + batch])).latent_dist.mean * vae.config.scaling_factor
        for i in range(0, len(pictures), batch)
    ]
    return torch.cat(parts).half()
