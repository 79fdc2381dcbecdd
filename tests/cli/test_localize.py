"""`loco localize` on the command line."""

import json

import pytest
from typer.main import get_command

from loco_cli.cli.app import app
from loco_cli.recipe.record import LocalizeSettings

QUICK = [
    *("--prompt", "a house by {subject}", "--search", "exhaustive"),
    *("--width", "15", "--seeds", "1", "--steps", "1"),
]


def test_table(loco, here):
    """
    Every range has a row, the chosen range is marked, and a sentence gives the result.
    """
    result = loco("localize", "van gogh style", *QUICK, "--device", "cpu")

    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("style `van gogh` in tiny: 1 prompt, 1 seed, 1 step\n")
    assert "[0, 15]" in result.stdout
    assert "[1, 16]" in result.stdout
    assert result.stdout.count("◀ chosen") == 1
    assert "layer" in result.stdout.splitlines()[-1]
    assert "localizing van gogh 0/4" in result.stderr
    assert "localizing van gogh 4/4" in result.stderr
    assert list(here.iterdir()) == []


def test_json(loco, here):
    """
    With `--json`, stdout has only the document, and `--output` writes the same document.
    """
    result = loco("localize", "van gogh style", *QUICK, "--json", "--quiet", "--output", "found")

    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    document = json.loads(result.stdout)
    assert document["schema"] == "loco.localization/1"
    assert document == json.loads((here / "found" / "localization.json").read_text())
    assert (document["width"], document["seeds"], document["steps"]) == (15, [0], 1)


def test_dry_run(loco, golden, here):
    """
    `--dry-run` prints the cost of each search, and writes nothing.
    """
    words = loco("localize", "van gogh style", "--dry-run", "--output", "found")
    document = loco("localize", "van gogh style", "--dry-run", "--json")
    for option in (("--search", "fast"), ("--search", "exhaustive"), ("--window", "set")):
        result = loco("localize", "van gogh style", "--dry-run", *option)
        golden(next(line for line in result.stdout.splitlines() if "UNet" in line))

    assert words.exit_code == document.exit_code == 0
    assert "'a picture by van gogh' → 'a painting'" in words.stdout
    assert json.loads(document.stdout)["schema"] == "loco.plan/1"
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("named", "layer_range", "layers"),
    [(["--layer-range", "8", "10"], [8, 10], [8, 9]), (["--layers", "1-2,10"], None, [1, 2, 10])],
)
def test_given_layers(loco, named, layer_range, layers):
    """
    Given layers are scored on every prompt and seed, beside the original and the full swap.
    """
    few = ["--prompt", "a house by {subject}", "--seeds", "2", "--steps", "1", "--no-cache"]
    line = ("localize", "van gogh style", *few, *named)
    plan = json.loads(loco(*line, "--dry-run", "--json").stdout)
    result = loco(*line, "--json", "--device", "cpu")

    found = json.loads(result.stdout)
    (score,) = found["scores"]
    assert found["layer_range"] == score.get("layer_range") == layer_range
    assert [one["layer"] for one in found["layers"]] == layers == plan["edits"][0]["layers"]
    assert (score["n"], found["width"], found["search"]) == (2, len(layers), "exhaustive")
    assert score["effect"] == found["effect"]
    assert score["stderr"] > 0
    assert plan["localize"]["n_pictures"] == 3 * 2
    assert plan["localize"]["unet_evaluations"] == found["unet_evaluations"] == 3 * 2 * 1 * 2


def test_defaults_in_help():
    """
    The help names the defaults of the recipe.
    """
    command = get_command(app).commands["localize"]

    for key in ("method", "search", "width"):
        (option,) = [one for one in command.params if f"--{key}" in one.opts]
        assert option.show_default == str(getattr(LocalizeSettings(), key))


def test_recipe_with_several_edits(loco, here):
    """
    Each edit of a recipe is localized.
    """
    (here / "two.yaml").write_text(
        "loco: 1\n"
        "edits:\n"
        "  - {kind: style, subject: monet, source: ['a house by {subject}']}\n"
        "  - {kind: object, subject: snoopy, source: ['a photo of {subject}']}\n"
        "localize: {width: 16, seeds: 1, steps: 1}\n"
    )

    result = loco("localize", "two.yaml", "--json", "--quiet")

    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["schema"] == "loco.localizations/1"
    assert [one["layer_range"] for one in document["localizations"]] == [[0, 16]] * 2


def test_trace(loco, here):
    """
    Causal tracing prints a table of states, or `loco.trace/1` with `--json`.
    """
    quick = [*QUICK[:2], *QUICK[6:], "--method", "causal-trace", "--noise", "10"]
    words = loco("localize", "monet style", *quick, "--guidance", "1", "--device", "cpu")
    document = loco("localize", "monet style", *quick, "--guidance", "1", "--json", "--quiet")

    assert words.exit_code == document.exit_code == 0, words.stderr
    assert words.stdout.startswith("style `monet` in tiny, text-encoder: 1 prompt, 1 seed")
    assert "last subject" in words.stdout
    assert "tracing monet" in words.stderr
    found = json.loads(document.stdout)
    assert (found["schema"], found["component"], found["noise"]) == (
        "loco.trace/1",
        "text-encoder",
        10.0,
    )
