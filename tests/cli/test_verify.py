"""`loco verify` on the command line."""

import json
import shutil

import pytest


@pytest.fixture
def broken(edited, tmp_path):
    """A copy of the edit with a flipped bit in a tensor."""
    output = shutil.copytree(edited, tmp_path / "broken")
    weights = output / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    return output


def test_intact_output(loco, edited):
    """
    An intact output gives one sentence and exit code 0.
    """
    result = loco("verify", edited)

    assert result.exit_code == 0
    assert result.stdout == (f"`{edited}` is intact: all hashes match the manifest\n")


def test_altered_output(loco, broken):
    """
    A flipped bit gives the name of its file and exit code 1.
    """
    result = loco("verify", broken)

    assert result.exit_code == 1
    assert "`unet/diffusion_pytorch_model.safetensors` was altered after the edit" in (
        result.stdout
    )


def test_json(loco, edited, broken):
    """
    `loco.verification/1` has the verdict and the failures.
    """
    good, bad = loco("verify", edited, "--json"), loco("verify", broken, "--json")

    assert json.loads(good.stdout) == {
        "schema": "loco.verification/1",
        "ok": True,
        "failures": [],
    }
    assert json.loads(bad.stdout)["ok"] is False
    assert len(json.loads(bad.stdout)["failures"]) == 1
