"""A model by any of its names."""

import shutil
from pathlib import Path

import pytest

from loco_cli.errors import CheckpointError, ModelUnavailable, RequestError, UnknownName
from loco_cli.models import registry
from loco_cli.workflows.hub import fetch
from loco_cli.workflows.locate import find, locate
from tests.checkpoints import WIDTHS, sd1_weights, write_folder, write_single_file


@pytest.fixture
def cached(home, tiny):
    """Put `tiny` into the hub's cache as `them/theirs`, made of links, as the hub makes it."""

    def put(hub_id, revision="abc123", without=()):
        from huggingface_hub.constants import HF_HUB_CACHE

        root = Path(HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}"
        shutil.rmtree(root, ignore_errors=True)
        snapshot = root / "snapshots" / revision
        for source in tiny.path.rglob("*"):
            if source.is_file() and source.suffix not in without:
                target = snapshot / source.relative_to(tiny.path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(source)
        (root / "refs").mkdir()
        (root / "refs" / "main").write_text(revision)
        made.append(root)
        return snapshot

    made: list[Path] = []
    yield put
    for root in made:
        shutil.rmtree(root)


@pytest.mark.parametrize("name", ["tiny", "tiny-plain"])
def test_an_alias_that_ships(name):
    """
    The models that ship are found under their names, with their own spec.
    """
    located = locate(name)

    assert located.name == located.spec.name == name
    assert located.path == registry.shipped_folder(located.spec)
    assert located.config == located.path
    assert located.revision is None


def test_a_folder_is_known_by_its_layers(tiny, tmp_path):
    """
    A copy of a known model is that model under the folder's name.
    """
    copy = shutil.copytree(tiny.path, tmp_path / "mine")

    located = locate(str(copy))

    assert located.name == "mine"
    assert located.spec is tiny.spec


def test_a_relative_path_has_a_name(tiny, tmp_path, monkeypatch):
    """
    `.` is called like the folder that it is.
    """
    copy = shutil.copytree(tiny.path, tmp_path / "mine")
    monkeypatch.chdir(copy)

    assert locate(".").name == "mine"


def test_a_path_may_begin_with_the_home_folder(tiny, home):
    """
    `~` is the home folder where the shell left it alone.
    """
    shutil.copytree(tiny.path, home / "mine")

    assert locate("~/mine").path == home / "mine"


def test_a_single_file_borrows_its_configuration(tiny, tiny_file):
    """
    A file of known widths is that model, and reads its tokenizer and configuration.
    """
    located = locate(str(tiny_file))

    assert located.name == "one"
    assert located.spec is tiny.spec
    assert located.config == tiny.path


def test_unknown_widths_are_read_off_the_tensors(tmp_path):
    """
    A checkpoint of no known model gets the layers of its family at its own widths.
    """
    located = locate(str(write_folder(tmp_path / "small", sd1_weights())))

    assert located.spec.family == "sd1"
    assert located.spec.hub_id is None
    assert located.spec.d_text == 12
    widths = [layer.projections[0].d_out for layer in located.spec.layers]
    assert widths[:2] == [WIDTHS[0]] * 2


def test_a_file_of_unknown_widths_has_no_configuration(tmp_path):
    """
    It can be found and compared; what needs its tokenizer says why there is none.
    """
    located = locate(str(write_single_file(tmp_path / "small.safetensors", sd1_weights())))

    with pytest.raises(CheckpointError, match="a single file of unknown widths"):
        _ = located.config


def test_another_family_is_said_to_be_one(tmp_path):
    """
    A checkpoint that loco reads but cannot edit yet is refused by its family.
    """
    weights = [
        _flat(weight) if weight.name.endswith(("proj_in.weight", "proj_out.weight")) else weight
        for weight in sd1_weights()
    ]
    folder = write_folder(tmp_path / "two", weights)

    with pytest.raises(CheckpointError, match="is of family `sd2`, which loco can compare but not"):
        locate(str(folder))
    assert find(str(folder)).path == folder


def test_the_hubs_cache_is_enough(cached):
    """
    A model that is in the cache is found without a network, with its commit.
    """
    snapshot = cached("them/theirs")

    located = locate("them/theirs")

    assert located.name == "them/theirs"
    assert located.path == snapshot
    assert located.revision == "abc123"


def test_an_alias_comes_from_the_cache(cached):
    """
    An alias of a model on the hub is found in the cache under its hub id.
    """
    snapshot = cached("CompVis/stable-diffusion-v1-4")

    assert find("sd14").path == snapshot
    assert locate("sd14").spec.name == "sd14"


def test_a_cache_without_weights_is_not_enough(cached):
    """
    Where only configuration was fetched before, the weights are asked for.
    """
    cached("them/theirs", without=(".safetensors",))

    with pytest.raises(ModelUnavailable, match=r"has no `unet/\*.safetensors`, neither here"):
        locate("them/theirs")
    folder = fetch("them/theirs", ("*.json",), needed="model_index.json", what="model", hint="")
    assert (folder / "model_index.json").is_file()


@pytest.mark.parametrize(
    ("model", "kind", "message"),
    [
        ("sd41", UnknownName, "unknown model `sd41`"),
        ("", UnknownName, "unknown model ``"),
        ("x" * 300, UnknownName, "unknown model `xxx"),
        (
            "them/theirs",
            ModelUnavailable,
            "model `them/theirs` is not on this machine, and the hub",
        ),
        ("sd15", ModelUnavailable, "is not on this machine, and the hub cannot be reached"),
        ("the/../m", RequestError, "there is no file or folder `the/../m`"),
        ("a//b c", RequestError, "there is no file or folder"),
        ("a b/c", UnknownName, "model `a b/c` is neither a path nor a hub id"),
        ("./nothing", RequestError, "there is no file or folder `nothing`"),
        ("~nobody-here/x", RequestError, "there is no file or folder `~nobody-here/x`"),
        ("nothing.safetensors", RequestError, "there is no file or folder `nothing.safetensors`"),
    ],
)
def test_what_is_no_model_is_one_sentence(model, kind, message, tmp_path, monkeypatch):
    """
    Each wrong name says what it was taken for.
    """
    monkeypatch.chdir(tmp_path)

    with pytest.raises(kind) as caught:
        locate(model)

    assert caught.value.message.startswith(message) or message in caught.value.message


def _flat(weight):
    from dataclasses import replace

    return replace(weight, value=weight.value.reshape(weight.value.shape[:2]))
