"""Neurons in every family: edited, verified, compared and undone, from a folder of each."""

import json

import pytest
from typer.testing import CliRunner

from loco_cli.checkpoint.layout import open_checkpoint
from loco_cli.checkpoint.reader import read_tensor
from loco_cli.cli.app import app
from tests.checkpoints import tree_bytes
from tests.families.layouts import F16, F32, write_folder
from tests.families.small import small_model

N = 3
LAYERS = {"sd15": (8, 9), "sd21": (8, 9), "sdxl": (30, 45), "deepfloyd": (8, 9)}
RECIPE = {
    "loco": 1,
    "edits": [{"kind": "style", "subject": "van gogh", "to": "painting"}],
    "preserve": ["monet", "a photo of a cat"],
    "edit": {"method": "neurons", "neurons": N},
}


def loco(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("name", LAYERS)
def test_neurons_of_every_family(name, tmp_path):
    """
    N rows of each key and value projection change, the same ones in every copy, and `undo` brings
    them back.
    """
    dtypes = (F32, F16) if name == "sd15" else (F16,)
    base = write_folder(tmp_path / "base", small_model(name), *dtypes)
    (tmp_path / "recipe.yaml").write_text(json.dumps(RECIPE))
    output, layers = tmp_path / "edited", ",".join(map(str, LAYERS[name]))

    done = loco(
        *("edit", tmp_path / "recipe.yaml", "--model", base, "--layers", layers),
        *("--output", output, "--json"),
    )
    verified, compared = loco("verify", output), loco("diff", base, output, "--json")
    undone = loco("undo", output, "--output", tmp_path / "restored")

    assert done.exit_code == 0, done.stderr
    assert verified.exit_code == undone.exit_code == 0, (verified.stderr, undone.stderr)
    assert tree_bytes(tmp_path / "restored") == tree_bytes(base)
    manifest, found = json.loads(done.stdout), json.loads(compared.stdout)
    (edit,) = manifest["edits"]
    assert (edit["method"], edit["neurons"]) == ("neurons", N)
    assert 0 < edit["residual"] < 1
    assert {tensor["rank"] for tensor in manifest["tensors"]} == {N}
    assert found["manifest"]["matches"] is True
    assert found["counts"]["changed"] == 2 * len(dtypes) * len(LAYERS[name])
    before, after = open_checkpoint(base), open_checkpoint(output)
    for planned in {tensor["name"] for tensor in manifest["tensors"]}:
        rows = [
            (read_tensor(old) != read_tensor(new)).any(1).nonzero()[:, 0].tolist()
            for old, new in zip(
                before.slots("unet", planned), after.slots("unet", planned), strict=True
            )
        ]
        assert len(rows[0]) == N
        assert rows == [rows[0]] * len(dtypes)
