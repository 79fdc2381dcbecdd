"""Editing methods in every family: edited, verified, compared and undone."""

import json

import pytest

from loco_cli.checkpoint.layout import open_checkpoint
from loco_cli.checkpoint.reader import read_tensor
from tests.checkpoints import tree_bytes
from tests.families.layouts import F16, F32, write_folder
from tests.families.small import small_model

N = 3
LAYERS = {"sd15": (8, 9), "sd21": (8, 9), "sdxl": (30, 45), "deepfloyd": (8, 9)}
EDITS = [{"kind": "style", "subject": "van gogh", "to": "painting"}]


def edited(loco, name, tmp_path, dtypes, **recipe):
    """Edit, verify, compare and undo; return base, output and manifest."""
    base = write_folder(tmp_path / "base", small_model(name), *dtypes)
    (tmp_path / "recipe.yaml").write_text(json.dumps({"loco": 1, "edits": EDITS, **recipe}))
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
    found = json.loads(compared.stdout)
    assert found["manifest"]["matches"] is True
    assert found["counts"]["changed"] == 2 * len(dtypes) * len(LAYERS[name])
    return base, output, json.loads(done.stdout)


@pytest.mark.parametrize("name", LAYERS)
def test_neurons_of_every_family(name, tmp_path, loco):
    """The same N rows of each projection change in every copy, and `undo` restores them."""
    dtypes = (F32, F16) if name == "sd15" else (F16,)
    settings = {"method": "neurons", "neurons": N}
    preserved = ["monet", "a photo of a cat"]
    base, output, manifest = edited(loco, name, tmp_path, dtypes, preserve=preserved, edit=settings)

    (edit,) = manifest["edits"]
    assert (edit["method"], edit["neurons"]) == ("neurons", N)
    assert 0 < edit["residual"] < 1
    assert {tensor["rank"] for tensor in manifest["tensors"]} == {N}
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


@pytest.mark.parametrize("name", ["sd21", "sdxl"])
def test_a_null_space_is_kept_to_the_rounding(name, tmp_path, loco):
    """Preserved prompts keep their answers up to rounding, and other prompts are edited."""
    sections = {"preserve": ["a cat"], "edit": {"preserve_form": "null-space"}}
    _, _, manifest = edited(loco, name, tmp_path, (F32,), **sections)

    assert manifest["drift"]["preserved"] < 1e-5 < manifest["drift"]["unrelated"]
    assert manifest["edits"][0]["residual"] < 0.9
