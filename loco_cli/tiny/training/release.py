"""What ships: diffusers folders in float16, scorer and judge, answer key and settings."""

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

from loco_cli.tiny.training.unet import LAYERS, PLANT, make_scheduler

WEIGHTS = Path(__file__).parents[1] / "weights"
_TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")


def text_encoder_of(clip: CLIPModel) -> CLIPTextModel:
    """Return CLIP's text tower as the text encoder it becomes in the pipeline."""
    encoder = CLIPTextModel(clip.config.text_config)
    tower = getattr(clip.text_model, "text_model", clip.text_model)
    encoder.load_state_dict(tower.state_dict())
    return encoder


def release(work: Path) -> None:
    """Write everything that is trained so far under `loco_cli/tiny/weights`."""
    for name in ("tiny", "tiny-plain"):
        if (work / name).exists():
            _write_pipeline(work, name)
    for source, name in (("clip", "scorer"), ("judge", "judge")):
        if (work / source).exists():
            CLIPModel.from_pretrained(work / source).half().save_pretrained(WEIGHTS / name)
            _copy_tokenizer(work, WEIGHTS / name)
            pixels = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_normalize": True}
            (WEIGHTS / name / "preprocessor_config.json").write_text(json.dumps(pixels, indent=2))
    (WEIGHTS / "answer_key.json").write_text(json.dumps(answer_key(), indent=2) + "\n")


def answer_key() -> dict:
    """Return which layers of `tiny` are told the truth about which kind of concept."""
    return {
        "model": "tiny",
        "layer_ranges": {kind: list(layers) for kind, layers in PLANT.items()},
        "module_paths": {
            kind: [LAYERS[layer].module_path for layer in range(*layers)]
            for kind, layers in PLANT.items()
        },
    }


def _write_pipeline(work: Path, name: str) -> None:
    folder = WEIGHTS / name
    shutil.rmtree(folder, ignore_errors=True)
    pipe = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(work / "vae").half(),
        text_encoder=text_encoder_of(CLIPModel.from_pretrained(work / "clip")).half(),
        tokenizer=CLIPTokenizer.from_pretrained(work / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(work / name).half(),
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder)
    for config in folder.glob("*/config.json"):  # where it was trained is nobody's business
        settings = json.loads(config.read_text())
        settings.pop("_name_or_path", None)
        config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    _name_as_published(folder / "text_encoder" / "model.safetensors", pipe.text_encoder)
    shutil.rmtree(folder / "tokenizer")
    _copy_tokenizer(work, folder / "tokenizer")


def _name_as_published(path: Path, encoder: CLIPTextModel) -> None:
    """Write the encoder's tensors with `text_model.` in front, as published checkpoints do."""
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
