"""
Small models of every family, found and running on the CPU, as `loco` itself loads them.

They are made once for all tests and only read.
"""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from loco_cli.models.locate import LocatedModel, locate
from loco_cli.models.session import RunOptions, load_model
from loco_cli.sampling.pipeline import Pipeline
from tests.families.layouts import write_folder
from tests.families.small import small_model

# one of each family; the first is the model that ships
FAMILIES = ("tiny", "sd21", "sdxl", "deepfloyd")
CPU = RunOptions(device="cpu")
_FOLDERS = TemporaryDirectory(prefix="loco-tests-")


@cache
def located(name: str) -> LocatedModel:
    """Return a small relative of a known model, in a folder."""
    if name == "tiny":
        return locate("tiny")
    folder = write_folder(Path(_FOLDERS.name) / name, small_model(name), torch.float32)
    return locate(str(folder))


@cache
def running(name: str) -> Pipeline:
    """Return the pipeline of such a model."""
    return load_model(located(name), CPU)
