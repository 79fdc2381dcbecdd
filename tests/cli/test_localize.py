"""`loco localize`, as it is typed."""

import json

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from loco_cli.cli.app import app
from loco_cli.recipe.record import LocalizeSettings

QUICK = [
    *("--prompt", "a house by {subject}", "--search", "exhaustive"),
    *("--width", "15", "--seeds", "1", "--steps", "1"),
]


def localize(*arguments):
    return CliRunner().invoke(app, ["localize", *arguments])


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_table_with_the_chosen_range_marked(here):
    """
    Every window has a line with its score and effect, and a sentence draws the conclusion.
    """
    result = localize("van gogh style", *QUICK, "--device", "cpu")

    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("style `van gogh` in tiny: 1 prompts, 1 seeds, 1 steps\n")
    assert "[0, 15]" in result.stdout
    assert "[1, 16]" in result.stdout
    assert result.stdout.count("◀ chosen") == 1
    assert "layer" in result.stdout.splitlines()[-1]
    assert "localizing van gogh 0/4" in result.stderr
    assert "localizing van gogh 4/4" in result.stderr
    assert list(here.iterdir()) == []


def test_json_is_one_document_and_output_the_same(here):
    """
    With `--json` stdout is the document, with `--output` it is a file too, `--quiet` says nothing.
    """
    result = localize("van gogh style", *QUICK, "--json", "--quiet", "--output", "found")

    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    document = json.loads(result.stdout)
    assert document["schema"] == "loco.localization/1"
    assert document == json.loads((here / "found" / "localization.json").read_text())
    assert (document["width"], document["seeds"], document["steps"]) == (15, [0], 1)


def test_a_dry_run_prints_the_plan(here):
    """
    `--dry-run` makes no picture and writes nothing.
    """
    words = localize("van gogh style", "--dry-run", "--output", "found")
    document = localize("van gogh style", "--dry-run", "--json")
    paper = localize("van gogh style", "--dry-run", "--search", "exhaustive")
    noncontiguous = localize("van gogh style", "--dry-run", "--window", "set")

    assert words.exit_code == document.exit_code == 0
    assert "find the layers: at most 330 pictures, 13280 UNet evaluations" in words.stdout
    assert "find the layers: at most 960 pictures, 38400 UNet evaluations" in paper.stdout
    assert "find the layers: at most 544 pictures, 21840 UNet evaluations" in noncontiguous.stdout
    assert "'a picture by van gogh' → 'a painting'" in words.stdout
    assert json.loads(document.stdout)["schema"] == "loco.plan/1"
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("named", "layer_range", "layers"),
    [(["--layer-range", "8", "10"], [8, 10], [8, 9]), (["--layers", "1-2,10"], None, [1, 2, 10])],
)
def test_layers_that_are_named_are_scored(named, layer_range, layers):
    """
    No layers are looked for: the original, the full swap and those named, on every prompt and seed.
    """
    few = ["--prompt", "a house by {subject}", "--seeds", "2", "--steps", "1", "--no-cache"]
    plan = json.loads(localize("van gogh style", *few, *named, "--dry-run", "--json").stdout)
    result = localize("van gogh style", *few, *named, "--json", "--device", "cpu")

    found = json.loads(result.stdout)
    (score,) = found["scores"]
    assert found["layer_range"] == score.get("layer_range") == layer_range
    assert [one["layer"] for one in found["layers"]] == layers == plan["edits"][0]["layers"]
    assert (score["n"], found["width"], found["search"]) == (2, len(layers), "exhaustive")
    assert score["effect"] == found["effect"]
    assert score["stderr"] > 0
    assert plan["localize"]["n_pictures"] == 3 * 2
    assert plan["localize"]["unet_evaluations"] == found["unet_evaluations"] == 3 * 2 * 1 * 2


@pytest.mark.parametrize("key", ["method", "search", "width"])
def test_help_names_the_default_of_the_recipe(key):
    """
    What an option is without being given is what the recipe has without the key.
    """
    command = get_command(app).commands["localize"]

    (option,) = [one for one in command.params if f"--{key}" in one.opts]
    assert option.show_default == str(getattr(LocalizeSettings(), key))


def test_a_recipe_with_several_edits_gives_several(here):
    """
    A recipe may stand in the place of a concept; each of its edits is localized.
    """
    (here / "two.yaml").write_text(
        "loco: 1\n"
        "edits:\n"
        "  - {kind: style, subject: monet, source: ['a house by {subject}']}\n"
        "  - {kind: object, subject: snoopy, source: ['a photo of {subject}']}\n"
        "localize: {width: 16, seeds: 1, steps: 1}\n"
    )

    result = localize("two.yaml", "--json", "--quiet")

    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["schema"] == "loco.localizations/1"
    assert [one["layer_range"] for one in document["localizations"]] == [[0, 16]] * 2


def test_a_trace_is_a_table_and_a_document(here):
    """
    Causal tracing shows the states that restore most, and the same as `loco.trace/1`.
    """
    quick = [*QUICK[:2], *QUICK[6:], "--method", "causal-trace", "--noise", "10"]
    words = localize("monet style", *quick, "--guidance", "1", "--device", "cpu")
    document = localize("monet style", *quick, "--guidance", "1", "--json", "--quiet")

    assert words.exit_code == document.exit_code == 0, words.stderr
    assert words.stdout.startswith("style `monet` in tiny, text-encoder: 1 prompts, 1 seeds")
    assert "last subject" in words.stdout
    assert "what the noise takes" in words.stdout
    assert "tracing monet" in words.stderr
    found = json.loads(document.stdout)
    assert (found["schema"], found["component"], found["noise"]) == (
        "loco.trace/1",
        "text-encoder",
        10.0,
    )
