"""
Train `tiny` and `tiny-plain` from scratch: `python -m loco_cli.tiny.training --work DIR`.

Every stage is seeded, saves snapshots under DIR and resumes from them. The stages run in order and
take about four hours on two cores.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPModel, CLIPTokenizer

from loco_cli.tiny.training.contrastive import make_clip, make_judge, train_contrastive
from loco_cli.tiny.training.pictures import load_pictures
from loco_cli.tiny.training.release import release, text_encoder_of, write_training
from loco_cli.tiny.training.tokenizer import make_tokenizer
from loco_cli.tiny.training.unet import Encoder, make_unet, train_unet
from loco_cli.tiny.training.vae import encode_pictures, train_decoder, train_vae

N_PICTURES = 30_000
STEPS = {
    "vae": 1800,
    "clip": 2000,
    "judge": 2000,
    "tiny-plain": 5500,
    "tiny": 5000,
    "decoder": 1500,
}
SEEDS = {
    "tokenizer": 0,
    "vae": 10,
    "clip": 20,
    "judge": 30,
    "tiny-plain": 40,
    "tiny": 50,
    "decoder": 60,
}


def _make_tower(name: str, work: Path) -> None:
    """Train the scorer (`clip`) or the `judge`."""
    pictures, scenes = load_pictures(work, "train", N_PICTURES)
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    torch.manual_seed(SEEDS[name])
    model = make_clip(tokenizer) if name == "clip" else make_judge(tokenizer)
    train_contrastive(
        model,
        tokenizer,
        pictures,
        scenes,
        name=name,
        work=work,
        n_steps=STEPS[name],
        seed=SEEDS[name],
    )
    model.save_pretrained(work / name)


def _make_latents(work: Path) -> tuple[torch.Tensor, list]:
    """Return the latents [n, 4, 16, 16] of the training pictures and their scenes; encode once."""
    pictures, scenes = load_pictures(work, "train", N_PICTURES)
    path = work / "latents.npy"
    if not path.exists():
        vae = AutoencoderKL.from_pretrained(work / "vae")
        np.save(path, encode_pictures(vae, pictures).numpy())
    return torch.from_numpy(np.load(path)), scenes


def _make_decoder(work: Path) -> None:
    """Fine-tune the decoder alone, so that the latents and the UNets remain valid."""
    pictures, _ = load_pictures(work, "train", N_PICTURES)
    latents, _ = _make_latents(work)
    vae = train_decoder(work, pictures, latents, STEPS["decoder"], SEEDS["decoder"])
    vae.save_pretrained(work / "decoder")


def _make_unet_of(name: str, work: Path) -> None:
    """Train `tiny-plain` from scratch, or `tiny` from `tiny-plain` with planted knowledge."""
    latents, scenes = _make_latents(work)
    encoder = Encoder(
        text_encoder_of(CLIPModel.from_pretrained(work / "clip")),
        CLIPTokenizer.from_pretrained(work / "tokenizer"),
    )
    torch.manual_seed(SEEDS[name])
    is_planted = name == "tiny"
    unet = UNet2DConditionModel.from_pretrained(work / "tiny-plain") if is_planted else make_unet()
    train_unet(
        unet.train(),
        encoder,
        latents,
        scenes,
        is_planted=is_planted,
        name=name,
        work=work,
        n_steps=STEPS[name],
        seed=SEEDS[name],
    )
    unet.save_pretrained(work / name)


def _main() -> None:
    """Run the stages that have no result yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for pictures and snapshots"
    )
    stages = [*STEPS, "release", "figures"]
    parser.add_argument(
        "--stage", choices=stages, action="append", help="run only this stage (repeatable)"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    if not (args.work / "tokenizer").exists():
        make_tokenizer(args.work / "tokenizer", seed=SEEDS["tokenizer"])
    for stage in args.stage or stages:
        if stage == "release":
            release(args.work)
        elif stage == "figures":
            write_training(args.work, N_PICTURES, STEPS, SEEDS)
        elif not (args.work / stage).exists():
            if stage == "vae":
                pictures, _ = load_pictures(args.work, "train", N_PICTURES)
                train_vae(args.work, pictures, STEPS["vae"], SEEDS["vae"]).save_pretrained(
                    args.work / "vae"
                )
            elif stage == "decoder":
                _make_decoder(args.work)
            elif stage in ("clip", "judge"):
                _make_tower(stage, args.work)
            else:
                _make_unet_of(stage, args.work)


if __name__ == "__main__":
    _main()
