"""The result of a training: a diffusers folder in float16, and a record of the settings."""

import json
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from diffusers import IFPipeline, UNet2DConditionModel
from transformers import T5EncoderModel, T5Tokenizer

from tests.deepfloyd.parts import make_scheduler
from tests.deepfloyd.small_if import FOLDER, load_bench, locate_small_if, recognised

_PACKAGES = ("torch", "diffusers", "transformers", "tokenizers", "numpy")


def release(work: Path, folder: Path = FOLDER) -> None:
    """Write the trained parts under `work` as a diffusers folder of IF."""
    shutil.rmtree(folder, ignore_errors=True)
    pipe = IFPipeline(
        tokenizer=T5Tokenizer.from_pretrained(work / "tokenizer"),
        text_encoder=T5EncoderModel.from_pretrained(work / "text_encoder").half(),
        unet=UNet2DConditionModel.from_pretrained(work / "unet").half(),
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder)
    for config in folder.glob("*/config.json"):  # drop the paths of the training machine
        settings = json.loads(config.read_text())
        settings.pop("_name_or_path", None)
        config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    shutil.rmtree(folder / "tokenizer")
    shutil.copytree(work / "tokenizer", folder / "tokenizer")


def write_training(work: Path, settings: dict[str, Any]) -> None:
    """Measure the released model and write settings and figures to `training.json`."""
    history = work / "history.txt"
    document = {
        **settings,
        "history": history.read_text().splitlines() if history.exists() else [],
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in _PACKAGES},
        },
        "generated": recognised(load_bench(locate_small_if())),
    }
    path = FOLDER.parent / "training.json"
    path.write_text(json.dumps(document, indent=2) + "\n")
