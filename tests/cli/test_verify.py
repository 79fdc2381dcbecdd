"""`loco verify`, `loco diff` and `loco undo` on an edit that was just made."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from loco_cli.cli.app import app


def loco(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def broken(edited, tmp_path):
    """The same with one byte of a tensor flipped."""
    output = shutil.copytree(edited, tmp_path / "broken")
    weights = output / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    return output


def test_an_edit_holds(edited):
    """
    What was written holds: a sentence on stdout, and exit code 0.
    """
    result = loco("verify", edited)

    assert result.exit_code == 0
    assert result.stdout == (f"`{edited}` holds: its hashes are those of the manifest\n")


def test_a_flipped_byte_is_told(broken):
    """
    One byte more or less is exit code 1, and the file is named.
    """
    result = loco("verify", broken)

    assert result.exit_code == 1
    assert "`unet/diffusion_pytorch_model.safetensors` is not the file that was written" in (
        result.stdout
    )


def test_a_verification_is_a_document(edited, broken):
    """
    `loco.verification/1` says whether it holds, and what fails.
    """
    good, bad = loco("verify", edited, "--json"), loco("verify", broken, "--json")

    assert json.loads(good.stdout) == {
        "schema": "loco.verification/1",
        "ok": True,
        "failures": [],
    }
    assert json.loads(bad.stdout)["ok"] is False
    assert len(json.loads(bad.stdout)["failures"]) == 1
