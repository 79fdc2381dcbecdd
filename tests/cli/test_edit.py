"""`loco edit`, as it is typed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loco_cli.cli.app import app
from loco_cli.recipe.load import load_recipe

BESIDE = ("loco.json", "loco.yaml")  # a LoRA


def edit(*arguments):
    return CliRunner().invoke(app, ["edit", *arguments])


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_words_are_enough(here):
    """
    A concept in words, its layers and nothing else: a folder named after model and concept.
    """
    result = edit("van gogh style", "--layer-range", "8", "10")

    assert result.exit_code == 0, result.stderr
    assert "style `van gogh` → `painting` in layers 8 and 9: " in result.stderr
    assert "unrelated prompts by " in result.stderr
    assert "up_blocks.1.attentions.1.transformer_blocks.0.attn2.to_k.weight" in result.stdout
    assert "wrote tiny-van-gogh-style, its manifest loco-manifest.json, its undo file " in (
        result.stderr
    )
    assert [path.name for path in here.iterdir()] == ["tiny-van-gogh-style"]


def test_json_is_the_manifest(here):
    """
    With `--json` stdout is the manifest that was written, and nothing else.
    """
    result = edit("remove_style", "--layers", "8,9", "-o", "out", "--json", "--quiet")

    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    document = json.loads(result.stdout)
    assert document == json.loads((here / "out" / "loco-manifest.json").read_text())
    assert document["recipe"]["overrides"] == {"edit.layers": [8, 9]}


def test_the_command_in_the_manifest_names_no_place(here, monkeypatch):
    """
    Absolute paths are shortened to their names, behind `=` as well, and every option stays.
    """
    out = str(here / "out")
    words = [
        "edit",
        "remove_style",
        "--layers=8",
        f"--output={out}",
        "--save-recipe",
        f"{out}.yaml",
    ]
    # the manifest has the command as the shell gave it, which a runner in this process does not set
    monkeypatch.setattr("sys.argv", ["loco", *words])

    assert edit(*words[1:]).exit_code == 0

    command = json.loads((here / "out" / "loco-manifest.json").read_text())["command"]
    assert command == ["loco", *words[:3], "--output=out", "--save-recipe", "out.yaml"]


def test_options_reach_the_edit(here):
    """
    `--to`, `--ridge`, `--set`, `--no-stamp` and `--save-recipe` do what they say.
    """
    result = edit(
        *("snoopy", "--to", "a cat", "--layers", "1-2,10", "--ridge", "0.5", "--output", "out"),
        *("--set", "edit.tokens=last-subject", "--set", "preserve=none", "--no-stamp"),
        *("--save-recipe", "saved.yaml", "--json"),
    )

    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    (one,) = document["edits"]
    assert (one["kind"], one["subject"], one["to"]) == ("object", "snoopy", "a cat")
    assert (one["layers"], one["layer_range"]) == ([1, 2, 10], None)
    assert (one["ridge"], one["tokens"]) == (0.5, "last-subject")
    assert document["preserve"] == []
    assert document["output"]["stamped"] is False
    saved = load_recipe((here / "saved.yaml").read_text(), "saved.yaml")
    assert saved.edit.layers == (1, 2, 10)
    assert saved.preserve == "none"


def test_a_lora_is_a_file_of_its_own(here):
    """
    With `--as lora` the change alone is written, and nothing is there to undo.
    """
    result = edit("van gogh style", "--layers", "8", "--as", "lora", "--json")

    assert result.exit_code == 0, result.stderr
    names = {path.name for path in here.iterdir()}
    assert names == {f"tiny-van-gogh-style.{end}" for end in ("safetensors", *BESIDE)}
    assert json.loads(result.stdout)["output"]["kind"] == "lora"
    assert "and its manifest tiny-van-gogh-style.loco.json; the base stays" in result.stderr


def test_the_time_of_a_build_is_fixed(here, monkeypatch):
    """
    `SOURCE_DATE_EPOCH` is the time in the manifest.
    """
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")

    result = edit("van gogh style", "--layers", "8", "--output", "out", "--json")

    assert json.loads(result.stdout)["created"] == "1970-01-01T00:00:00Z"


def test_the_price_of_finding_layers_is_told_first(here):
    """
    Without layers the command says what finding them takes, finds them, and edits there.
    """
    result = edit(
        *(
            "van gogh style",
            "--set",
            'source=["a house by {subject}"]',
            "--set",
            "localize.width=16",
        ),
        *("--seeds", "1", "--steps", "1", "--output", "out", "--json"),
        *("--set", "edit.strength=fixed"),
    )

    assert result.exit_code == 0, result.stderr
    first, *rest = result.stderr.splitlines()
    assert first == "first finding the layers: at most 2 pictures, 4 UNet evaluations"
    told = [line.split() for line in rest[rest.index("localizing van gogh 2/2 steps") + 1 :]]
    assert told[0][:5] == ["style", "`van", "gogh`", "in", "tiny:"]
    assert told[1] == ["layers", "score", "±", "stderr", "effect"]
    assert told[2][:2] == ["[0,", "16]"]
    assert told[2][-2:] == ["◀", "chosen"]
    assert told[3] == ["solving", "0/1"]
    document = json.loads(result.stdout)
    assert document["localizations"][0]["layer_range"] == [0, 16]
    assert document["edits"][0]["layer_range"] == [0, 16]


def test_a_dry_run_writes_nothing(here):
    """
    `--dry-run` shows tensors and output, with `--json` as a document.
    """
    words = edit("remove_style", "--layers", "8", "--dry-run", "--save-recipe", "r.yaml")
    document = edit("remove_style", "--layers", "8", "--dry-run", "--json")

    assert words.exit_code == document.exit_code == 0
    assert "change up_blocks.1.attentions.1.transformer_blocks.0.attn2.to_v.weight" in words.stdout
    plan = json.loads(document.stdout)
    assert plan["schema"] == "loco.plan/1"
    assert plan["edits"][0]["layers"] == [8]
    assert len(plan["tensors"]) == 2
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["edit", "remove_style", "--dry-run"],
        ["localize", "van gogh style", "--dry-run"],
        ["evaluate", "update_fact", "--dry-run"],
        ["generate", "a cat", "--dry-run"],
        ["diff", "tiny", "tiny"],
    ],
)
def test_a_plan_needs_no_torch(arguments):
    """
    A dry run reads headers, and imports neither torch nor diffusers.
    """
    code = f"""
import sys
from loco_cli.cli.app import app
try:
    app({arguments!r})
except SystemExit as stop:
    assert not stop.code, stop.code
print([name for name in ("torch", "diffusers", "transformers") if name in sys.modules])
"""

    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    line = [sys.executable, "-c", code]

    done = subprocess.run(line, env=env, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_force_replaces_an_edit(here):
    """
    An output of `loco` is replaced with `--force`, and only then.
    """
    first = edit("van gogh style", "--layers", "8", "--output", "out")
    refused = edit("van gogh style", "--layers", "9", "--output", "out")
    second = edit("van gogh style", "--layers", "9", "--output", "out", "--force", "--json")

    assert (first.exit_code, refused.exit_code, second.exit_code) == (0, 2, 0)
    names = [tensor["name"] for tensor in json.loads(second.stdout)["tensors"]]
    assert all("up_blocks.1.attentions.2" in name for name in names)
