"""
Train the small IF from scratch: `python -m tests.deepfloyd.train --work DIR`.

T5 learns from text alone and is then frozen, as in IF. It restores masked pieces of captions, and
the mean of its states classifies the scene. The UNet learns to predict velocity from drawn
pictures. Every stage is seeded, saves snapshots under DIR and resumes from them.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import T5EncoderModel, T5Tokenizer

from loco_cli.tiny.training.loop import train
from loco_cli.tiny.training.pictures import load_pictures
from loco_cli.tiny.world.captions import all_scenes, draw_caption, word_caption
from loco_cli.tiny.world.picture import Scene
from tests.deepfloyd.parts import (
    D_TEXT,
    END,
    MASK,
    N_TOKENS,
    PAD,
    SIZE,
    WIDTHS,
    make_scheduler,
    make_text_encoder,
    make_tokenizer,
    make_unet,
)
from tests.deepfloyd.release import release, write_training

N_PICTURES = 30_000
STEPS = {"text": 1200, "unet": 2200}
BATCH_SIZE = {"text": 96, "unet": 32}
PEAK_RATE = {"text": 2e-3, "unet": 1.2e-3}
SEEDS = {"tokenizer": 0, "text": 70, "unet": 80}
EMPTY_CAPTION_SHARE = 0.1  # for classifier-free guidance
MASKED_SHARE = 0.2  # pieces of a caption that T5 has to restore


class TextTask(nn.Module):
    """A T5 with two heads for training: its own token table, and a classifier of scenes."""

    def __init__(self, encoder: T5EncoderModel, n_scenes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.scenes = nn.Linear(D_TEXT, n_scenes)

    def forward(self, ids: Tensor, scene: Tensor, masked: Tensor) -> Tensor:
        """Return the loss on the masked pieces [n, t] plus that on the scenes [n]."""
        is_word = ids != PAD
        inputs = ids.masked_fill(masked, MASK)
        states = self.encoder(inputs, attention_mask=is_word.long()).last_hidden_state
        guesses = states[masked] @ self.encoder.shared.weight.T / D_TEXT**0.5
        mean = (states * is_word[..., None]).sum(1) / is_word.sum(1, keepdim=True)
        restored = functional.cross_entropy(guesses, ids[masked])
        return restored + functional.cross_entropy(self.scenes(mean), scene)


def train_text(tokenizer: T5Tokenizer, work: Path) -> T5EncoderModel:
    """Train a T5 on captions of all scenes."""
    scenes = all_scenes()
    torch.manual_seed(SEEDS["text"])
    task = TextTask(make_text_encoder(len(tokenizer)), len(scenes))

    def loss(rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        index = rng.integers(0, len(scenes), BATCH_SIZE["text"])
        captions = [word_caption(rng, draw_caption(rng, scenes[i])) for i in index]
        ids = tokenizer(captions, padding=True, return_tensors="pt").input_ids
        masked = (torch.rand(ids.shape, generator=generator) < MASKED_SHARE) & (ids > END)
        return task(ids, torch.from_numpy(index), masked)

    ema = train(
        task,
        loss,
        name="text",
        work=work,
        n_steps=STEPS["text"],
        peak=PEAK_RATE["text"],
        seed=SEEDS["text"],
    )
    task.load_state_dict(ema.state)
    return task.encoder


class CachedEncoder:
    """A text encoder that caches the states of each caption, padding included."""

    def __init__(self, model: T5EncoderModel, tokenizer: T5Tokenizer) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.cache: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, captions: list[str]) -> Tensor:  # [n, 77, d_text]
        new = sorted(set(captions) - self.cache.keys())
        if new:
            tokens = self.tokenizer(
                new, padding="max_length", max_length=N_TOKENS, truncation=True, return_tensors="pt"
            )
            states = self.model(tokens.input_ids, attention_mask=tokens.attention_mask)
            self.cache.update(zip(new, states.last_hidden_state.half(), strict=True))
        return torch.stack([self.cache[caption] for caption in captions]).float()


def shrink(pictures: NDArray[np.uint8]) -> Tensor:  # [n, 3, 16, 16], -1 to 1
    """Scale down pictures [n, 64, 64, 3] by averaging pixels."""
    parts = np.array_split(pictures, max(1, len(pictures) // 1000))
    return (
        torch.cat(
            [
                functional.interpolate(
                    torch.from_numpy(part.copy()).permute(0, 3, 1, 2).float(),
                    (SIZE, SIZE),
                    mode="area",
                )
                for part in parts
            ]
        )
        / 127.5
        - 1
    )


def train_unet(
    encode: CachedEncoder, pictures: Tensor, scenes: list[Scene], work: Path
) -> UNet2DConditionModel:
    """Train a UNet on captions and pictures [n, 3, 16, 16]."""
    torch.manual_seed(SEEDS["unet"])
    unet, scheduler = make_unet(), make_scheduler()

    def loss(rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        index = rng.integers(0, len(pictures), BATCH_SIZE["unet"])
        clean = pictures[index]
        noise = torch.randn(clean.shape, generator=generator)
        times = torch.randint(0, 1000, (len(index),), generator=generator)
        captions = [word_caption(rng, draw_caption(rng, scenes[i])) for i in index]
        is_empty = rng.random(len(index)) < EMPTY_CAPTION_SHARE
        context = encode(["" if empty else c for c, empty in zip(captions, is_empty, strict=True)])
        noisy = scheduler.add_noise(clean, noise, times)
        guess = unet(noisy, times, context).sample[:, :3]
        return functional.mse_loss(guess, scheduler.get_velocity(clean, noise, times))

    ema = train(
        unet,
        loss,
        name="unet",
        work=work,
        n_steps=STEPS["unet"],
        peak=PEAK_RATE["unet"],
        seed=SEEDS["unet"],
    )
    unet.load_state_dict(ema.state)
    return unet


def main() -> None:
    """Run the stages that have no result yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for pictures and snapshots"
    )
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(args.work / "tokenizer", seed=SEEDS["tokenizer"])
    if not (args.work / "text_encoder").exists():
        train_text(tokenizer, args.work).save_pretrained(args.work / "text_encoder")
    encoder = T5EncoderModel.from_pretrained(args.work / "text_encoder")
    drawn, scenes = load_pictures(args.work, "train", N_PICTURES)
    if not (args.work / "unet").exists():
        unet = train_unet(CachedEncoder(encoder, tokenizer), shrink(drawn), scenes, args.work)
        unet.save_pretrained(args.work / "unet")
    release(args.work)
    write_training(args.work, settings())


def settings() -> dict[str, Any]:
    """Return the settings of every stage."""
    return {
        "command": "python -m tests.deepfloyd.train --work DIR",
        "pictures": N_PICTURES,
        "optimizer": "AdamW, weight decay 0.01, one-cycle rate, averaged weights",
        "stages": {
            name: {
                "steps": STEPS[name],
                "batch": BATCH_SIZE[name],
                "peak_rate": PEAK_RATE[name],
                "seed": SEEDS[name],
            }
            for name in STEPS
        },
        "unet": {"widths": list(WIDTHS), "d_text": D_TEXT, "pixels": SIZE},
    }


if __name__ == "__main__":
    main()
