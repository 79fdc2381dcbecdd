"""
Fixtures of all tests: none reaches the network or anyone's home, and `tiny` is loaded once.

The fixtures of a session are only read. Their imports are heavy and stand inside, so that a test of
words runs without torch.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from tests.golden import FILE_NAME, ROOT, GoldenMessages, write_messages

_HUB = TemporaryDirectory(prefix="loco-tests-")

# huggingface_hub reads these variables once, on import
os.environ["HF_HOME"] = _HUB.name
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

# torch reads this variable once, on import; parallel processes with many threads slow each other
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


_ACCEPTED = pytest.StashKey[dict[Path, dict[str, list[str]]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that accepts changed messages."""
    parser.addoption(
        "--accept-messages", action="store_true", help="write what the tests say to messages.yaml"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Collect accepted messages in one process, since each golden file has one writer."""
    config.stash[_ACCEPTED] = {}
    if config.getoption("--accept-messages") and config.getoption("numprocesses", None):
        raise pytest.UsageError("--accept-messages takes one process: add `-n 0`")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the messages of this run to the golden files."""
    for path, messages in session.config.stash[_ACCEPTED].items():
        write_messages(path, messages)


@pytest.fixture
def golden(request, home, tmp_path):
    """Compare messages with the entry of this test in the golden file of its folder."""
    folders = {str(tmp_path): "<tmp>", str(home): "<home>", str(ROOT): "<loco>"}
    path = request.path.parent / FILE_NAME
    name = f"{request.path.name}::{request.node.name}"
    accepted = request.config.stash[_ACCEPTED]
    messages = GoldenMessages(path, name, folders, request.config.getoption("--accept-messages"))
    n_failed = request.session.testsfailed
    yield messages
    if request.session.testsfailed > n_failed:
        return
    if messages.is_accepting:
        accepted.setdefault(path, {})[name] = messages.texts
    else:
        messages.close()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Make an empty folder the current one, and return it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def loco():
    """Run a command line in this process: `loco("edit", path).exit_code`."""
    from typer.testing import CliRunner

    from loco_cli.cli.app import app

    def run(*words: object):
        return CliRunner().invoke(app, [str(word) for word in words], prog_name="loco")

    return run


@pytest.fixture(scope="session")
def recipe_of():
    """Build a recipe from its sections: `recipe_of(edit={"layers": [8, 9]}, preserve="none")`."""
    from loco_cli.recipe.load import load_recipe

    def build(*edits: dict, **sections: object):
        edits = edits or ({"kind": "style", "subject": "van gogh"},)
        text = yaml.safe_dump({"loco": 1, "edits": list(edits), **sections}, sort_keys=False)
        return load_recipe(text, "r.yaml")

    return build


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
