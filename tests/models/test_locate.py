"""Models located by alias, path or hub id."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub.utils import filter_repo_objects

from loco_cli.checkpoint.layout import open_checkpoint
from loco_cli.errors import CheckpointError, ModelUnavailable, RequestError, UnknownName
from loco_cli.families import registry
from loco_cli.models.hub import MODEL_FILES, fetch
from loco_cli.models.locate import _declared, find_model_path, locate
from tests.checkpoints import WIDTHS, K, sd1_weights, write_folder, write_single_file
from tests.families.layouts import write_folder as write_relative
from tests.families.small import small_model


@pytest.fixture
def cached(home, tiny):
    """Put `tiny` into the hub's cache under some hub id, as links."""

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
def test_shipped_models_are_located_by_alias(name):
    """Shipped models have their alias as name, and their own spec."""
    located = locate(name)

    assert located.name == located.spec.name == name
    assert located.path == registry.shipped_folder(located.spec)
    assert located.config == located.path
    assert located.revision is None


def test_a_folder_is_known_by_its_layers(tiny, tmp_path):
    """A copy of a known model has the spec of that model and the name of its folder."""
    copy = shutil.copytree(tiny.path, tmp_path / "mine")

    located = locate(str(copy))

    assert located.name == "mine"
    assert located.spec is tiny.spec


def test_dots_and_tildes_in_paths_are_expanded(tiny, home, monkeypatch):
    """`~` is the home folder, and `.` has the name of its folder."""
    copy = shutil.copytree(tiny.path, home / "mine")
    monkeypatch.chdir(copy)

    assert locate("~/mine").path == copy
    assert locate(".").name == "mine"


def test_a_single_file_borrows_its_configuration(tiny, tiny_file):
    """A file of known widths uses the tokenizer and the configuration of its model."""
    located = locate(str(tiny_file))

    assert located.name == "one"
    assert located.spec is tiny.spec
    assert located.config == tiny.path


def test_unknown_widths_follow_from_the_tensors(tmp_path):
    """A checkpoint of unknown widths has the layers of its family with its own widths."""
    located = locate(str(write_folder(tmp_path / "small", sd1_weights())))

    assert located.spec.family.name == "sd1"
    assert located.spec.hub_id is None
    assert located.spec.d_text == 12
    widths = [layer.projections[0].d_out for layer in located.spec.layers]
    assert widths[:2] == [WIDTHS[0]] * 2


def test_a_file_of_unknown_widths_has_no_configuration(tmp_path, golden):
    """A single file of unknown widths can be located, but has no packaged configuration."""
    located = locate(str(write_single_file(tmp_path / "small.safetensors", sd1_weights())))

    with golden.raises(CheckpointError, "small.safetensors`"):
        _ = located.config


@pytest.mark.parametrize(
    ("name", "family", "n_layers", "d_text"),
    [
        ("sd15", "sd1", 16, 64),
        ("sd21", "sd2", 16, 128),
        ("sdxl", "sdxl", 70, 192),
        ("deepfloyd", "if", 22, 64),
    ],
)
def test_families_are_recognised_by_their_tensors(name, family, n_layers, d_text, tmp_path):
    """A model of any family has that family's layers under its own name."""
    located = locate(str(write_relative(tmp_path / "mine", small_model(name), torch.float16)))

    assert (located.name, located.spec.name, located.spec.family.name) == ("mine", family, family)
    assert (located.spec.n_layers, located.spec.d_text) == (n_layers, d_text)
    assert located.encoder_model is located
    assert located.spec.unreachable == registry.get(name).unreachable


def test_the_scheduler_distinguishes_models_of_one_shape(tmp_path):
    """The scheduler distinguishes SD 2.1 from its base and SDXL from its Turbo."""
    base = write_relative(tmp_path / "base", small_model("sd21-base"), torch.float16)
    plain = write_relative(tmp_path / "sdxl", small_model("sdxl"), torch.float16)
    turbo = write_relative(tmp_path / "turbo", small_model("sdxl"), torch.float16)
    scheduler = turbo / "scheduler" / "scheduler_config.json"
    scheduler.write_text('{"timestep_spacing": "trailing"}')

    facts = {path.name: _declared(open_checkpoint(path)) for path in (base, plain, turbo)}

    for name in ("base", "sdxl"):
        assert (facts[name]["architecture"], facts[name]["prediction"]) == (None, "epsilon")
    assert (facts["turbo"]["architecture"], facts["turbo"]["prediction"]) == (None, None)
    assert facts["turbo"]["spacing"] == registry.get("sdxl-turbo").spacing


@pytest.mark.parametrize("said", ["v", "epsilon"])
def test_metadata_distinguishes_single_files(said, tmp_path):
    """`modelspec.*` of a single file has the role of a folder's scheduler."""
    metadata = {"modelspec.architecture": "stable-diffusion-v2-512"}
    metadata |= {"modelspec.prediction_type": said}
    file = write_single_file(tmp_path / "a.safetensors", sd1_weights(), metadata=metadata)

    facts = _declared(open_checkpoint(file))

    assert facts["architecture"] == "stable-diffusion-v2-512"
    assert facts["prediction"] == {"v": "v_prediction", "epsilon": "epsilon"}[said]


def test_a_projection_of_the_wrong_width_is_refused(tmp_path, golden):
    """The error about a projection that does not fit its block names both shapes."""
    weights = [
        replace(weight, value=weight.value[:4]) if weight.name == K else weight
        for weight in sd1_weights()
    ]
    folder = write_folder(tmp_path / "small", weights)

    with golden.raises(CheckpointError, f"`{K}`", "[4, 12]", "[8, 12]"):
        locate(str(folder))


def test_an_alias_of_another_model_is_refused(tiny, home, golden):
    """
    The location of an alias has to contain that model; its path is the way to use another one.
    """
    for alias in ("sd15", "sdxl"):
        put_places(home, f"{alias}: {tiny.path}\n")
        with golden.raises(CheckpointError, f"`{alias}`"):
            locate(alias)

    assert locate(str(tiny.path)).spec is tiny.spec


def test_users_can_set_locations(tiny, home, cached):
    """`models.yaml` maps an alias to a folder or to another repository."""
    put_places(home, f"tiny: {tiny.path}\ntiny-plain: me/a-mirror\n")
    snapshot = cached("me/a-mirror")

    assert find_model_path("tiny").path == tiny.path
    assert locate("tiny").name == "tiny"
    assert find_model_path("tiny-plain").path == snapshot
    assert locate("me/a-mirror").spec.name == "tiny-plain"


def test_an_invalid_models_file_is_refused(home, golden):
    """`models.yaml` maps known models to locations."""
    for text in ("sd12: me/mirror", "sd15: [1]", "- sd15", "sd15: [", "\0"):
        put_places(home, text)
        with golden.raises(RequestError, "models.yaml`"):
            locate("tiny")


def test_the_error_about_a_missing_model_names_the_models_file(home, golden):
    """A model that the hub no longer has can be mapped to another location."""
    with golden.raises(ModelUnavailable, "`sd21`", f"{home}/config/loco/models.yaml`"):
        locate("sd21")


def test_the_hubs_cache_is_enough(cached):
    """A cached model needs no network, and its commit is known."""
    snapshot = cached("them/theirs")

    located = locate("them/theirs")

    assert located.name == "them/theirs"
    assert located.path == snapshot
    assert located.revision == "abc123"


def test_an_alias_is_located_in_the_cache(cached):
    """An alias is located in the cache by its hub id and checked against its spec."""
    snapshot = cached("CompVis/stable-diffusion-v1-4")

    assert find_model_path("sd14").path == snapshot
    for model in ("sd14", "CompVis/stable-diffusion-v1-4"):
        with pytest.raises(CheckpointError):
            locate(model)


def test_a_cache_without_weights_is_not_enough(cached, golden):
    """A cache that contains only the configuration does not replace the download."""
    cached("them/theirs", without=(".safetensors",))

    with golden.raises(ModelUnavailable, "`unet/*.safetensors`"):
        locate("them/theirs")
    folder = fetch("them/theirs", ("*.json",), needed=("model_index.json",), role="model", hint="")
    assert (folder / "model_index.json").is_file()


def test_unknown_models_are_refused(here, golden):
    """The error shows how the name was understood: as an alias, a path or a hub id."""
    for model, kind in (
        ("sd41", UnknownName),
        ("", UnknownName),
        ("x" * 300, UnknownName),
        ("them/theirs", ModelUnavailable),
        ("sd15", ModelUnavailable),
        ("the/../m", RequestError),
        ("a//b c", RequestError),
        ("a b/c", UnknownName),
        ("./nothing", RequestError),
        ("~nobody-here/x", RequestError),
        ("nothing.safetensors", RequestError),
    ):
        with golden.raises(kind):
            locate(model)


def put_places(home, text):
    (home / "config" / "loco").mkdir(parents=True, exist_ok=True)
    (home / "config" / "loco" / "models.yaml").write_text(text)


def test_single_files_beside_a_folder_are_not_fetched():
    """A download skips single files at the root of a repository with a diffusers folder."""
    ours = [
        "model_index.json",
        "unet/config.json",
        "unet/a.fp16.safetensors",
        "tokenizer/merges.txt",
    ]
    theirs = ["sd_xl_base_1.0.safetensors", "v1-5-pruned.ckpt", "unet/diffusion_pytorch_model.bin"]

    fetched = filter_repo_objects([*ours, *theirs], allow_patterns=list(MODEL_FILES))

    assert list(fetched) == ours
