"""
What tests share: none reaches the network or anyone's home, and `tiny` is loaded once.

The fixtures of a session are only read. Their imports are heavy and stand inside, so that a test of
words runs without torch.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

_HUB = TemporaryDirectory(prefix="loco-tests-")

# read by huggingface_hub when it is imported, and never again
os.environ["HF_HOME"] = _HUB.name
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

# read by torch when it is imported: processes side by side would only be in each other's way
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point home, caches and configuration to an empty folder, and return it."""
    folder = tmp_path_factory.mktemp("home")
    places = {
        "HOME": "",
        "HF_HOME": "huggingface",
        "XDG_CACHE_HOME": "cache",
        "XDG_CONFIG_HOME": "config",
        "XDG_DATA_HOME": "data",
        "XDG_STATE_HOME": "state",
    }
    for variable, place in places.items():
        monkeypatch.setenv(variable, str(folder / place))
    for variable in ("LOCO_DEBUG", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    return folder


@pytest.fixture(scope="session")
def tiny():
    """The model that ships, found but not loaded."""
    from loco_cli.models.locate import locate

    return locate("tiny")


@pytest.fixture(scope="session")
def pipeline(tiny):
    """`tiny`, running on the CPU."""
    from loco_cli.models.session import RunOptions, load_model

    return load_model(tiny, RunOptions(device="cpu"))


@pytest.fixture(scope="session")
def encoder(tiny):
    """The text encoder of `tiny`, built from its tensors alone."""
    from loco_cli.models.encoders import encoder_of

    return encoder_of(tiny)


@pytest.fixture(scope="session")
def tiny_file(tiny, tmp_path_factory):
    """`tiny` as a single file, its tensors named as CompVis names them."""
    from tests.single_file import write_single_file_of

    return write_single_file_of(
        tiny.checkpoint, tmp_path_factory.mktemp("file") / "one.safetensors"
    )
