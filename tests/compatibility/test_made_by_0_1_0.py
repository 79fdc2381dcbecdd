"""Files that an early 0.1.0 wrote: `verify`, `undo`, `diff`, `evaluate` and caches accept them."""

import json
import os
import shutil
from pathlib import Path

import pytest

import loco_cli
from loco_cli.evaluation import Evaluation
from loco_cli.localization import Localization

MADE = Path(__file__).parent / "made_by_0_1_0"
MADE_AT = 1_764_547_200  # modification time of the model files, in seconds


@pytest.fixture
def made(tmp_path):
    """A writable copy of the files."""
    return shutil.copytree(MADE, tmp_path / "made")


@pytest.fixture
def base_folder(made):
    """The diffusers folder that is the base of the folder edit."""
    folder = made / "base"
    (folder / "unet").mkdir(parents=True)
    for name in ("model_index.json", "unet/config.json"):
        shutil.copy(made / "folder" / name, folder / name)
    shutil.copy(made / "base.safetensors", folder / "unet/diffusion_pytorch_model.safetensors")
    return folder


@pytest.mark.parametrize("output", ["edited.safetensors", "folder", "lora.safetensors"])
def test_verifies(loco, made, output):
    """
    An old output matches its manifest.
    """
    done = loco("verify", made / output, "--json")

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["ok"]


def test_finds_a_change(loco, made):
    """
    `verify` finds one changed byte in an old output.
    """
    path = made / "edited.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    assert loco("verify", path).exit_code == 1


def test_undoes_a_file(loco, made):
    """
    Undoing an old file edit restores its base, byte for byte.
    """
    restored = made / "restored.safetensors"

    done = loco("undo", made / "edited.safetensors", "--output", restored)

    assert done.exit_code == 0, done.output
    assert restored.read_bytes() == (made / "base.safetensors").read_bytes()


def test_undoes_a_folder(loco, made, base_folder):
    """
    Undoing an old folder edit restores exactly the files of its base.
    """
    restored = made / "restored"

    done = loco("undo", made / "folder", "--output", restored)

    assert done.exit_code == 0, done.output
    assert contents_of(restored) == contents_of(base_folder)


def contents_of(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize(("output", "n_changed"), [("edited.safetensors", 4), ("folder", 8)])
def test_compares(loco, made, base_folder, output, n_changed):
    """
    The diff of an old edit has exactly the tensors of its manifest.
    """
    base = base_folder if output == "folder" else made / "base.safetensors"

    done = loco("diff", base, made / output, "--json")

    document = json.loads(done.stdout)
    assert done.exit_code == 1
    assert document["counts"]["changed"] == len(document["tensors"]) == n_changed
    manifest = document["manifest"]
    assert manifest["found"]
    assert manifest["matches"]
    assert manifest["unexpected"] == manifest["missing"] == []


@pytest.mark.parametrize("output", ["edited.safetensors", "lora.safetensors"])
def test_evaluates_an_edit(loco, made, output):
    """
    `evaluate` accepts an old edit of the base, checkpoint or LoRA.
    """
    base, edited = made / "base.safetensors", made / output

    done = loco("evaluate", "remove_style", "--base", base, "--edited", edited, "--dry-run")

    assert done.exit_code == 0, done.output


def test_edits_an_edit(loco, made):
    """
    An old edit can be a base, and the new manifest has it as the parent.
    """
    again = made / "again.safetensors"
    where = ("--model", made / "edited.safetensors", "--layer-range", 2, 3, "--output", again)

    done = loco("edit", "remove_object", *where)

    assert done.exit_code == 0, done.output
    parent = json.loads((made / "again.loco.json").read_text("utf-8"))["base"]["parent"]
    recipe = json.loads((made / "edited.loco.json").read_text("utf-8"))["recipe"]
    assert parent["recipe_sha256"] == recipe["sha256"]


def test_reads_documents():
    """
    An old document validates as a record that serializes to the same document.
    """
    for record in (Localization, Evaluation):
        path = MADE / f"{record.__name__.lower()}.json"
        document = json.loads(path.read_text("utf-8"))
        assert record.model_validate(document).to_json() == document


def test_reads_cached_runs(loco, made, home, monkeypatch):
    """
    A localization uses the runs of an old cache, and repeats none of them.
    """
    runs = shutil.copytree(made / "runs", home / "cache/loco/runs")
    cached = sorted(runs.rglob("*.json"))
    for path in cached:
        run = json.loads(path.read_text("utf-8"))
        path.write_text(json.dumps({**run, "score": run["score"] / 2}), encoding="utf-8")
    for name in ("tiny", "scorer"):
        shutil.copytree(Path(loco_cli.__file__).parent / "tiny/weights" / name, made / name)
    for path in (*(made / "tiny").rglob("*"), *(made / "scorer").rglob("*")):
        os.utime(path, (MADE_AT, MADE_AT))  # the cache identifies a large file by its time
    monkeypatch.chdir(made)
    model = ("--model", "./tiny", "--scorer", "./scorer")
    asked = ("--layer-range", 8, 10, "--seeds", 1, "--steps", 5, "--device", "cpu", "--json")

    done = loco("localize", "van gogh style", *model, *asked)

    assert done.exit_code == 0, done.output
    new = json.loads(done.stdout)
    old = json.loads((made / "localization.json").read_text("utf-8"))
    for name in ("original_score", "target_score"):
        assert new[name] == pytest.approx(old[name] / 2)
    assert new["unet_evaluations"] == old["unet_evaluations"]
    assert sorted(runs.rglob("*.json")) == cached
