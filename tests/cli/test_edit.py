"""`loco edit` on the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

from loco_cli.recipe.load import load_recipe


def test_concept_as_text(loco, here):
    """
    A concept and its layers are enough; the output is named after model and concept.
    """
    result = loco("edit", "van gogh style", "--layer-range", "8", "10")

    assert result.exit_code == 0, result.stderr
    assert "style `van gogh` → `painting` in layers 8 and 9: " in result.stderr
    assert "up_blocks.1.attentions.1.transformer_blocks.0.attn2.to_k.weight" in result.stdout
    last = result.stderr.splitlines()[-1]
    assert "tiny-van-gogh-style" in last
    assert "loco-undo.safetensors" in last
    assert [path.name for path in here.iterdir()] == ["tiny-van-gogh-style"]


def test_json(loco, here):
    """
    With `--json`, stdout has only the manifest, as it was written.
    """
    result = loco("edit", "remove_style", "--layers", "8,9", "-o", "out", "--json", "--quiet")

    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    document = json.loads(result.stdout)
    assert document == json.loads((here / "out" / "loco-manifest.json").read_text())
    assert document["recipe"]["overrides"] == {"edit.layers": [8, 9]}


def test_command_in_the_manifest(loco, here, monkeypatch):
    """
    The manifest has the command line, with absolute paths reduced to file names.
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
    # the manifest takes the command from `sys.argv`, which the runner does not set
    monkeypatch.setattr("sys.argv", ["loco", *words])

    assert loco("edit", *words[1:]).exit_code == 0

    command = json.loads((here / "out" / "loco-manifest.json").read_text())["command"]
    assert command == ["loco", *words[:3], "--output=out", "--save-recipe", "out.yaml"]


def test_options(loco, here):
    """
    `--to`, `--ridge`, `--set`, `--no-stamp` and `--save-recipe` take effect.
    """
    result = loco(
        "edit",
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


def test_lora(loco, here):
    """
    With `--as lora`, only the change is written, without an undo file.
    """
    result = loco("edit", "van gogh style", "--layers", "8", "--as", "lora", "--json")

    assert result.exit_code == 0, result.stderr
    names = {path.name for path in here.iterdir()}
    endings = ("safetensors", "loco.json", "loco.yaml")
    assert names == {f"tiny-van-gogh-style.{ending}" for ending in endings}
    assert json.loads(result.stdout)["output"]["kind"] == "lora"
    assert "tiny-van-gogh-style.loco.json" in result.stderr.splitlines()[-1]


def test_build_time(loco, here, monkeypatch):
    """
    `SOURCE_DATE_EPOCH` sets the time in the manifest.
    """
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")

    result = loco("edit", "van gogh style", "--layers", "8", "--output", "out", "--json")

    assert json.loads(result.stdout)["created"] == "1970-01-01T00:00:00Z"


def test_edit_with_a_search(loco, here):
    """
    Without layers, the command prints the cost of the search, finds layers, and edits them.
    """
    result = loco(
        "edit",
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
    assert "2 " in first
    assert "4 UNet evaluations" in first
    table = [line.split() for line in rest[rest.index("localizing van gogh 2/2 steps") + 1 :]]
    assert table[0][:5] == ["style", "`van", "gogh`", "in", "tiny:"]
    assert table[1] == ["layers", "score", "±", "stderr", "effect"]
    assert table[2][:2] == ["[0,", "16]"]
    assert table[2][-2:] == ["◀", "chosen"]
    assert table[3] == ["solving", "0/1"]
    document = json.loads(result.stdout)
    assert document["localizations"][0]["layer_range"] == [0, 16]
    assert document["edits"][0]["layer_range"] == [0, 16]


def test_dry_run(loco, here):
    """
    `--dry-run` prints the plan as text or JSON, and writes nothing.
    """
    words = loco("edit", "remove_style", "--layers", "8", "--dry-run", "--save-recipe", "r.yaml")
    document = loco("edit", "remove_style", "--layers", "8", "--dry-run", "--json")

    assert words.exit_code == document.exit_code == 0
    assert "change up_blocks.1.attentions.1.transformer_blocks.0.attn2.to_v.weight" in words.stdout
    plan = json.loads(document.stdout)
    assert plan["schema"] == "loco.plan/1"
    assert plan["edits"][0]["layers"] == [8]
    assert len(plan["tensors"]) == 2
    assert list(here.iterdir()) == []


def test_plan_without_torch():
    """
    Dry runs and `loco diff` import neither torch nor diffusers.
    """
    lines = [
        ["edit", "remove_style", "--dry-run"],
        ["localize", "van gogh style", "--dry-run"],
        ["evaluate", "update_fact", "--dry-run"],
        ["generate", "a cat", "--dry-run"],
        ["diff", "tiny", "tiny"],
    ]
    code = f"""
import sys
from loco_cli.cli.app import app
for line in {lines!r}:
    try:
        app(line)
    except SystemExit as stop:
        assert not stop.code, line
print([name for name in ("torch", "diffusers", "transformers") if name in sys.modules])
"""

    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    line = [sys.executable, "-c", code]

    done = subprocess.run(line, env=env, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_force(loco, here):
    """
    An existing output is replaced only with `--force`.
    """
    first = loco("edit", "van gogh style", "--layers", "8", "--output", "out")
    refused = loco("edit", "van gogh style", "--layers", "9", "--output", "out")
    second = loco("edit", "van gogh style", "--layers", "9", "--output", "out", "--force", "--json")

    assert (first.exit_code, refused.exit_code, second.exit_code) == (0, 2, 0)
    names = [tensor["name"] for tensor in json.loads(second.stdout)["tensors"]]
    assert all("up_blocks.1.attentions.2" in name for name in names)
