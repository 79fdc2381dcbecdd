"""`loco diff` on the command line."""

import json
import re

from tests.checkpoints import sd1_weights, write_folder, write_single_file


def test_edit(loco, edited):
    """
    The changed tensors are those in the manifest, and the exit code is 1.
    """
    result = loco("diff", "tiny", edited, "--json")

    assert result.exit_code == 1
    document = json.loads(result.stdout)
    manifest = json.loads((edited / "loco-manifest.json").read_text())
    assert document["manifest"]["matches"] is True
    assert {t["name"] for t in document["tensors"]} == {t["name"] for t in manifest["tensors"]}
    assert document["counts"]["changed"] == 4


def test_table(loco, edited):
    """
    A terminal shows each changed tensor under its block, and a verdict.
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
    assert "the changed tensors are exactly those in the manifest" in result.stdout


def test_two_edits_of_one_base(loco, edited, tmp_path):
    """
    A manifest is not used if the other side is not its base.
    """
    other = tmp_path / "other"
    assert loco("edit", "monet style", "--layers", "4", "--output", other).exit_code == 0

    result = loco("diff", edited, other)

    assert result.exit_code == 1
    assert "`edited` is not the base of `other`" in result.stdout
    assert "not listed" not in result.stdout


def test_equal_models(loco):
    """
    Equal models give exit code 0 and no table.
    """
    result = loco("diff", "tiny", "tiny")

    assert result.exit_code == 0
    sides, counts = result.stdout.splitlines()
    assert re.match(r"tiny \(sd1 folder, \d+\.\d MB\) → ", sides)
    assert counts.endswith(" identical")


def test_unknown_model(loco, tmp_path):
    """
    Models of an unknown width can be compared, a folder with a file.
    """
    weights = sd1_weights()
    folder = write_folder(tmp_path / "folder", weights)
    file = write_single_file(tmp_path / "file.safetensors", weights)

    result = loco("diff", folder, file, "--json")

    document = json.loads(result.stdout)
    assert document["counts"]["changed"] == 0
    assert document["counts"]["identical"] > 600
