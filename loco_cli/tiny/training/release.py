"""The released files: diffusers folders in float16, scorer, judge, answer key and figures."""

import json
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

from loco_cli.sampling.clip_score import ClipScorer
from loco_cli.tiny.training import contrastive, unet, vae
from loco_cli.tiny.training.figures import autoencoder_error, generate, recognition
from loco_cli.tiny.training.pictures import load_pictures
from loco_cli.tiny.training.unet import LAYERS, PLANT, make_scheduler

WEIGHTS = Path(__file__).parents[1] / "weights"
MODELS = ("tiny", "tiny-plain")
N_HELD_OUT = 3000
N_ROUNDS = 2  # pictures of every scene and wording
PACKAGES = ("torch", "diffusers", "transformers", "tokenizers", "numpy", "pillow")
# (batch size, peak learning rate) of each stage
RATES = {
    "vae": (vae.BATCH_SIZE, vae.PEAK_RATE),
    "decoder": (vae.DECODER_BATCH_SIZE, vae.DECODER_PEAK_RATE),
    "clip": (contrastive.BATCH_SIZE, contrastive.PEAK_RATE),
    "judge": (contrastive.BATCH_SIZE, contrastive.PEAK_RATE),
    "tiny-plain": (unet.BATCH_SIZE, unet.PEAK_RATE),
    "tiny": (unet.BATCH_SIZE, unet.PEAK_RATE),
}
_TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")


def text_encoder_of(clip: CLIPModel) -> CLIPTextModel:
    """Return the text tower of a CLIP model as the text encoder of the pipeline."""
    encoder = CLIPTextModel(clip.config.text_config)
    tower = getattr(clip.text_model, "text_model", clip.text_model)
    encoder.load_state_dict(tower.state_dict())
    return encoder


def release(work: Path) -> None:
    """Write every finished stage to `loco_cli/tiny/weights`."""
    for name in MODELS:
        if (work / name).exists():
            _write_pipeline(work, name)
    for source, name in (("clip", "scorer"), ("judge", "judge")):
        if (work / source).exists():
            CLIPModel.from_pretrained(work / source).half().save_pretrained(WEIGHTS / name)
            _copy_tokenizer(work, WEIGHTS / name)
            pixels = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_normalize": True}
            (WEIGHTS / name / "preprocessor_config.json").write_text(json.dumps(pixels, indent=2))
    (WEIGHTS / "answer_key.json").write_text(json.dumps(_answer_key(), indent=2) + "\n")


def _finest_vae(work: Path) -> Path:
    """Return the folder of the autoencoder, with the fine-tuned decoder if it exists."""
    finetuned = work / "decoder"
    return finetuned if finetuned.exists() else work / "vae"


def _answer_key() -> dict:
    """Return the layers of `tiny` that hold each kind of concept."""
    return {
        "model": "tiny",
        "layer_ranges": {kind: list(layers) for kind, layers in PLANT.items()},
        "module_paths": {
            kind: [LAYERS[layer].module_path for layer in range(*layers)]
            for kind, layers in PLANT.items()
        },
    }


def write_training(
    work: Path, n_pictures: int, steps: Mapping[str, int], seeds: Mapping[str, int]
) -> None:
    """Measure the released models and write settings and figures to `training.json`."""
    document = {
        **_training_settings(n_pictures, steps, seeds),
        "history": _history(work),
        "figures": _measure(work),
    }
    (WEIGHTS / "training.json").write_text(json.dumps(document, indent=2) + "\n")


def _training_settings(
    n_pictures: int, steps: Mapping[str, int], seeds: Mapping[str, int]
) -> dict[str, Any]:
    """Return the settings of every stage and the versions of the packages."""
    return {
        "command": "python -m loco_cli.tiny.training --work DIR",
        "pictures": {"train": n_pictures, "held_out": N_HELD_OUT},
        "optimizer": "AdamW, weight decay 0.01, one-cycle rate, averaged weights",
        "stages": {
            name: {
                "steps": n_steps,
                "batch": RATES[name][0],
                "peak_rate": RATES[name][1],
                "seed": seeds[name],
            }
            for name, n_steps in steps.items()
        },
        "unet": {"widths": list(unet.WIDTHS), "d_text": unet.D_TEXT},
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
        },
    }


def _measure(work: Path) -> dict[str, Any]:
    """Return the recognition of drawn pictures and of those that the released models generate."""
    towers = {name: ClipScorer(WEIGHTS / name) for name in ("scorer", "judge")}
    pictures, scenes = load_pictures(work, "held-out", N_HELD_OUT)
    drawn = (vae.to_tensor(pictures) + 1) / 2
    figures: dict[str, Any] = {
        "autoencoder": {
            "mean_absolute_error": autoencoder_error(WEIGHTS / "tiny" / "vae", drawn[:500])
        },
        "drawn": {name: recognition(tower, drawn, scenes) for name, tower in towers.items()},
    }
    for model in MODELS:
        images, scenes = generate(WEIGHTS / model, N_ROUNDS)
        figures[model] = {
            name: recognition(tower, images, scenes) for name, tower in towers.items()
        }
    return figures


def _history(work: Path) -> list[str]:
    """Return the lines of `history.txt`, notes on a training with interruptions."""
    path = work / "history.txt"
    return path.read_text().splitlines() if path.exists() else []


def _write_pipeline(work: Path, name: str) -> None:
    folder = WEIGHTS / name
    shutil.rmtree(folder, ignore_errors=True)
    pipe = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(_finest_vae(work)).half(),
        text_encoder=text_encoder_of(CLIPModel.from_pretrained(work / "clip")).half(),
        tokenizer=CLIPTokenizer.from_pretrained(work / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(work / name).half(),
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder)
    for config in folder.glob("*/config.json"):  # drop the paths of the training machine
        settings = json.loads(config.read_text())
        settings.pop("_name_or_path", None)
        config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    _name_as_published(folder / "text_encoder" / "model.safetensors", pipe.text_encoder)
    shutil.rmtree(folder / "tokenizer")
    _copy_tokenizer(work, folder / "tokenizer")


def _name_as_published(path: Path, encoder: CLIPTextModel) -> None:
    """Write the encoder's tensors with the prefix `text_model.`, as in published checkpoints."""
    tensors = {
        f"text_model.{k.removeprefix('text_model.')}": v for k, v in encoder.state_dict().items()
    }
    save_file(
        {k: v.contiguous().to(torch.float16) for k, v in tensors.items()}, path, {"format": "pt"}
    )


def _copy_tokenizer(work: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in _TOKENIZER_FILES:
        shutil.copyfile(work / "tokenizer" / name, folder / name)
