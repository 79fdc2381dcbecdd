"""Files that an earlier state of 0.1.0 wrote are verified, undone, compared, evaluated and read."""

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import loco_cli
from loco_cli.cli.app import app
from loco_cli.evaluation import Evaluation
from loco_cli.localization import Localization

MADE = Path(__file__).parent / "made_by_0_1_0"
MADE_AT = 1_764_547_200  # the time of the model's files, in seconds


def loco(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def made(tmp_path):
    """A copy of the files, which may be written to."""
    return shutil.copytree(MADE, tmp_path / "made")


@pytest.fixture
def base_folder(made):
    """The diffusers folder that the folder edit was made from."""
    folder = made / "base"
    (folder / "unet").mkdir(parents=True)
    for name in ("model_index.json", "unet/config.json"):
        shutil.copy(made / "folder" / name, folder / name)
    shutil.copy(made / "base.safetensors", folder / "unet/diffusion_pytorch_model.safetensors")
    return folder


@pytest.mark.parametrize("output", ["edited.safetensors", "folder", "lora.safetensors"])
def test_verifies(made, output):
    """
    An old output holds against its manifest.
    """
    done = loco("verify", made / output, "--json")

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["ok"]


def test_finds_a_change(made):
    """
    One changed byte of an old output is found.
    """
    path = made / "edited.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    assert loco("verify", path).exit_code == 1


def test_undoes_a_file(made):
    """
    An old file edit gives back its base, byte for byte.
    """
    restored = made / "restored.safetensors"

    done = loco("undo", made / "edited.safetensors", "--output", restored)

    assert done.exit_code == 0, done.output
    assert restored.read_bytes() == (made / "base.safetensors").read_bytes()


def test_undoes_a_folder(made, base_folder):
    """
    An old folder edit gives back every file of its base, and no other.
    """
    restored = made / "restored"

    done = loco("undo", made / "folder", "--output", restored)

    assert done.exit_code == 0, done.output
    assert contents_of(restored) == contents_of(base_folder)


def contents_of(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize(("output", "n_changed"), [("edited.safetensors", 4), ("folder", 8)])
def test_compares(made, base_folder, output, n_changed):
    """
    A diff of an old edit names the tensors of its manifest, and no others.
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
def test_takes_an_edit_to_evaluate(made, output):
    """
    `evaluate` recognises an old edit, checkpoint or LoRA, as made from its base.
    """
    base, edited = made / "base.safetensors", made / output

    done = loco("evaluate", "remove_style", "--base", base, "--edited", edited, "--dry-run")

    assert done.exit_code == 0, done.output


def test_edits_an_edit(made):
    """
    An old edit is a base again, and the new manifest names its manifest as the parent.
    """
    again = made / "again.safetensors"
    where = ("--model", made / "edited.safetensors", "--layer-range", 2, 3, "--output", again)

    done = loco("edit", "remove_object", *where)

    assert done.exit_code == 0, done.output
    parent = json.loads((made / "again.loco.json").read_text("utf-8"))["base"]["parent"]
    recipe = json.loads((made / "edited.loco.json").read_text("utf-8"))["recipe"]
    assert parent["recipe_sha256"] == recipe["sha256"]


@pytest.mark.parametrize("record", [Localization, Evaluation])
def test_reads_documents(record):
    """
    An old document is a record, which writes the same document.
    """
    path = MADE / f"{record.__name__.lower()}.json"
    document = json.loads(path.read_text("utf-8"))

    assert record.model_validate(document).to_json() == document


def test_reads_cached_runs(made, home, monkeypatch):
    """
    A localization takes its runs from an old cache, and makes none of them again.
    """
    runs = shutil.copytree(made / "runs", home / "cache/loco/runs")
    cached = sorted(runs.rglob("*.json"))
    for path in cached:
        run = json.loads(path.read_text("utf-8"))
        path.write_text(json.dumps({**run, "score": run["score"] / 2}), encoding="utf-8")
    for name in ("tiny", "scorer"):
        shutil.copytree(Path(loco_cli.__file__).parent / "tiny/weights" / name, made / name)
    for path in (*(made / "tiny").rglob("*"), *(made / "scorer").rglob("*")):
        os.utime(path, (MADE_AT, MADE_AT))  # a large file is known by its time
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
