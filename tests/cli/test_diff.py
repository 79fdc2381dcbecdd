"""`loco diff`, as it is typed."""

import json
import re

from typer.testing import CliRunner

from loco_cli.cli.app import app
from tests.checkpoints import sd1_weights, write_folder, write_single_file


def loco(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_an_edit_differs_in_what_its_manifest_lists(edited):
    """
    The tensors that changed are those of the manifest; the exit code says that some did.
    """
    result = loco("diff", "tiny", edited, "--json")

    assert result.exit_code == 1
    document = json.loads(result.stdout)
    manifest = json.loads((edited / "loco-manifest.json").read_text())
    assert document["manifest"]["matches"] is True
    assert {t["name"] for t in document["tensors"]} == {t["name"] for t in manifest["tensors"]}
    assert document["counts"]["changed"] == 4


def test_a_difference_is_a_table(edited):
    """
    A terminal shows each tensor under its block, what became of it, and a verdict.
    """
    result = loco("diff", "tiny", edited)

    assert result.exit_code == 1
    header, block, keys, values, *_ = (line.split() for line in result.stdout.splitlines())
    assert header == ["status", "|Δ|/|W|", "max", "|Δ|", "rank", "share", "tensor"]
    assert block == ["unet", "up_blocks.1.attentions.1", "(OUT04)"]
    assert [keys[0], keys[-1]] == ["changed", "transformer_blocks.0.attn2.to_k.weight"]
    assert [values[0], values[-1]] == ["changed", "transformer_blocks.0.attn2.to_v.weight"]
    assert "4 changed" in result.stdout
    assert "metadata `unet/diffusion_pytorch_model.safetensors:loco.version`: – → " in result.stdout
    assert "the changed tensors are exactly those of the manifest" in result.stdout


def test_two_edits_of_one_base_are_told_to_be_that(edited, tmp_path):
    """
    A manifest says nothing of what is not its base, and a sentence says so.
    """
    other = tmp_path / "other"
    assert loco("edit", "monet style", "--layers", "4", "--output", other).exit_code == 0

    result = loco("diff", edited, other)

    assert result.exit_code == 1
    assert "`edited` is not the base that the manifest of `other` was written for" in result.stdout
    assert "unexpected" not in result.stdout


def test_a_model_is_no_different_from_itself():
    """
    No difference is exit code 0, and a sentence in place of a table.
    """
    result = loco("diff", "tiny", "tiny")

    assert result.exit_code == 0
    sides, counts = result.stdout.splitlines()
    assert re.match(r"tiny \(sd1 folder, \d+\.\d MB\) → ", sides)
    assert counts.endswith(" identical")


def test_other_layouts_and_widths_can_be_compared(tmp_path):
    """
    A comparison needs no known model: a folder and a single file of any widths will do.
    """
    weights = sd1_weights()
    folder = write_folder(tmp_path / "folder", weights)
    file = write_single_file(tmp_path / "file.safetensors", weights)

    result = loco("diff", folder, file, "--json")

    document = json.loads(result.stdout)
    assert document["counts"]["changed"] == 0
    assert document["counts"]["identical"] > 600
