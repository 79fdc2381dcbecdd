"""
Make the small IF from nothing: `python -m tests.deepfloyd.train --work DIR`.

Its T5 learns from text alone and is frozen then, as IF's is: it restores pieces of captions that
are left out, and its words' mean tells what the captions of one picture have in common. The UNet
learns velocity from drawn pictures. Every stage is seeded, keeps snapshots under DIR, and goes on
where it was stopped.
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
from loco_cli.tiny.world.captions import all_scenes, tell, word
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
BATCH = {"text": 96, "unet": 32}
PEAK = {"text": 2e-3, "unet": 1.2e-3}
SEEDS = {"tokenizer": 0, "text": 70, "unet": 80}
UNSAID = 0.1  # share of captions left out, for guidance
MASKED = 0.2  # share of pieces that T5 has to restore


class TextTask(nn.Module):
    """A T5 with what it learns by: its own token table as the head, and a vector per scene."""

    def __init__(self, encoder: T5EncoderModel, n_scenes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.scenes = nn.Linear(D_TEXT, n_scenes)

    def forward(self, ids: Tensor, scene: Tensor, masked: Tensor) -> Tensor:
        """Return the loss of pieces [n, t] that were masked, and of the scenes [n] told."""
        is_word = ids != PAD
        read = ids.masked_fill(masked, MASK)
        states = self.encoder(read, attention_mask=is_word.long()).last_hidden_state
        guesses = states[masked] @ self.encoder.shared.weight.T / D_TEXT**0.5
        mean = (states * is_word[..., None]).sum(1) / is_word.sum(1, keepdim=True)
        restored = functional.cross_entropy(guesses, ids[masked])
        return restored + functional.cross_entropy(self.scenes(mean), scene)


def train_text(tokenizer: T5Tokenizer, work: Path) -> T5EncoderModel:
    """Return a T5 that has read captions of all scenes, and nothing else."""
    scenes = all_scenes()
    torch.manual_seed(SEEDS["text"])
    task = TextTask(make_text_encoder(len(tokenizer)), len(scenes))

    def loss(rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        index = rng.integers(0, len(scenes), BATCH["text"])
        captions = [word(rng, tell(rng, scenes[i])) for i in index]
        ids = tokenizer(captions, padding=True, return_tensors="pt").input_ids
        masked = (torch.rand(ids.shape, generator=generator) < MASKED) & (ids > END)
        return task(ids, torch.from_numpy(index), masked)

    ema = train(
        task,
        loss,
        name="text",
        work=work,
        n_steps=STEPS["text"],
        peak=PEAK["text"],
        seed=SEEDS["text"],
    )
    task.load_state_dict(ema.state)
    return task.encoder


class Reader:
    """The states of captions, padding too, each read once."""

    def __init__(self, model: T5EncoderModel, tokenizer: T5Tokenizer) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.known: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, captions: list[str]) -> Tensor:  # [n, 77, d_text]
        new = sorted(set(captions) - self.known.keys())
        if new:
            tokens = self.tokenizer(
                new, padding="max_length", max_length=N_TOKENS, truncation=True, return_tensors="pt"
            )
            states = self.model(tokens.input_ids, attention_mask=tokens.attention_mask)
            self.known.update(zip(new, states.last_hidden_state.half(), strict=True))
        return torch.stack([self.known[caption] for caption in captions]).float()


def shrink(pictures: NDArray[np.uint8]) -> Tensor:  # [n, 3, 16, 16], -1 to 1
    """Return pictures [n, 64, 64, 3], each pixel the mean of those that it stands for."""
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
    reader: Reader, pictures: Tensor, scenes: list[Scene], work: Path
) -> UNet2DConditionModel:
    """Return a UNet that draws captions as pictures [n, 3, 16, 16]."""
    torch.manual_seed(SEEDS["unet"])
    unet, scheduler = make_unet(), make_scheduler()

    def loss(rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        index = rng.integers(0, len(pictures), BATCH["unet"])
        clean = pictures[index]
        noise = torch.randn(clean.shape, generator=generator)
        times = torch.randint(0, 1000, (len(index),), generator=generator)
        told = [word(rng, tell(rng, scenes[i])) for i in index]
        silent = rng.random(len(index)) < UNSAID
        context = reader(["" if s else t for t, s in zip(told, silent, strict=True)])
        noisy = scheduler.add_noise(clean, noise, times)
        guess = unet(noisy, times, context).sample[:, :3]
        return functional.mse_loss(guess, scheduler.get_velocity(clean, noise, times))

    ema = train(
        unet,
        loss,
        name="unet",
        work=work,
        n_steps=STEPS["unet"],
        peak=PEAK["unet"],
        seed=SEEDS["unet"],
    )
    unet.load_state_dict(ema.state)
    return unet


def main() -> None:
    """Run the stages that are not done yet."""
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
        unet = train_unet(Reader(encoder, tokenizer), shrink(drawn), scenes, args.work)
        unet.save_pretrained(args.work / "unet")
    release(args.work)
    write_training(args.work, settings())


def settings() -> dict[str, Any]:
    """Return how every part is trained."""
    return {
        "command": "python -m tests.deepfloyd.train --work DIR",
        "pictures": N_PICTURES,
        "optimizer": "AdamW, weight decay 0.01, one-cycle rate, averaged weights",
        "stages": {
            name: {
                "steps": STEPS[name],
                "batch": BATCH[name],
                "peak_rate": PEAK[name],
                "seed": SEEDS[name],
            }
            for name in STEPS
        },
        "unet": {"widths": list(WIDTHS), "d_text": D_TEXT, "pixels": SIZE},
    }


if __name__ == "__main__":
    main()
