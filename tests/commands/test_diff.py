"""`loco diff`: differences between checkpoints of all layouts."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch

from loco_cli.commands import diff as compare
from tests.checkpoints import K_ORIGINAL, K, Weight, sd1_weights, write_folder, write_single_file
from tests.edits import NAMES, edit


@pytest.fixture(scope="module")
def weights():
    return sd1_weights()


def changed(weights, name, step):
    """Return the weights with a step added to one UNet tensor."""
    return tuple(
        Weight(w.original, w.component, w.name, w.value + step) if w.name == name else w
        for w in weights
    )


@pytest.mark.parametrize("layout", ["folder", "file"])
def test_copies(layout, weights, tmp_path):
    """
    Two copies of a checkpoint have no difference.
    """
    write = write_folder if layout == "folder" else write_single_file
    a, b = (write(tmp_path / f"{name}.safetensors", weights) for name in "ab")

    diff = compare.run(a, b)

    assert diff.is_same
    assert diff.counts.identical == diff.a.tensors == diff.b.tensors
    assert diff.manifest.found is False


def test_folder_and_file(weights, tmp_path):
    """
    Tensors of different layouts are paired by canonical name; only buffers have no pair.
    """
    folder = write_folder(tmp_path / "folder", weights)
    file = write_single_file(tmp_path / "file.safetensors", weights)

    diff = compare.run(folder, file)

    assert (diff.counts.identical, diff.counts.changed) == (len(weights), 0)
    assert sorted(tensor.name for tensor in diff.tensors) == [
        "alphas_cumprod",
        "cond_stage_model.transformer.text_model.embeddings.position_ids",
    ]
    assert {tensor.status for tensor in diff.tensors} == {"only_in_b"}


def test_shards_and_variants(weights, tmp_path):
    """
    Shards and variants of a component are not differences.
    """
    whole = write_folder(tmp_path / "whole", weights)
    sharded = write_folder(tmp_path / "sharded", weights, n_shards=3)
    variants = {"fp16": np.float16}
    both = write_folder(tmp_path / "both", weights, dtype=np.float32, variants=variants)
    file = write_single_file(tmp_path / "file.safetensors", weights)

    assert compare.run(whole, sharded).is_same
    assert compare.run(both, file).counts.identical == len(weights)


def test_figures_of_a_change(weights, tmp_path):
    """
    A change has a relative size, a largest step, a rank and a share of elements.
    """
    before = next(w.value for w in weights if w.name == K)
    step = np.zeros_like(before)
    step[:4] = 0.5
    a = write_single_file(tmp_path / "a.safetensors", weights, dtype=np.float32)
    b = write_single_file(tmp_path / "b.safetensors", changed(weights, K, step), dtype=np.float32)

    (tensor,) = compare.run(a, b).tensors

    assert (tensor.name, tensor.status, tensor.dtype) == (K_ORIGINAL, "changed", "F32")
    assert tensor.canonical_name == K
    assert (tensor.block, tensor.label) == ("down_blocks.0.attentions.0", "IN01")
    assert tensor.relative_change == pytest.approx(
        np.linalg.norm(step) / np.linalg.norm(before), rel=1e-6
    )
    assert tensor.max_abs == pytest.approx(0.5, rel=1e-6)
    assert (tensor.rank, tensor.share_changed) == (1, 0.5)


def test_statuses(weights, tmp_path):
    """
    Changed, retyped, reshaped and unpaired tensors are counted separately.
    """
    a = write_single_file(tmp_path / "a.safetensors", weights)
    tensors = load_file(a)
    names = [w.original for w in weights if w.component == "vae"]
    tensors[names[0]] = tensors[names[0]].astype(np.float32)
    tensors[names[1]] = tensors[names[1]][None]
    tensors["spare"] = tensors.pop(names[2])
    save_file(tensors, tmp_path / "b.safetensors")

    diff = compare.run(a, tmp_path / "b.safetensors")

    counts = diff.counts.model_dump()
    assert {key: n for key, n in counts.items() if key != "identical"} == {
        "changed": 0,
        "only_in_a": 1,
        "only_in_b": 1,
        "reshaped": 1,
        "retyped": 1,
    }
    by_status = {tensor.status: tensor for tensor in diff.tensors}
    assert by_status["retyped"].max_abs == 0.0
    assert by_status["only_in_b"].name == "spare"


def test_nan(weights, tmp_path):
    """
    A NaN in a tensor makes its figures null, so that the document is valid JSON.
    """
    a = write_single_file(tmp_path / "a.safetensors", weights)
    step = np.full((1,), np.nan, np.float32)
    b = write_single_file(tmp_path / "b.safetensors", changed(weights, K, step))

    (tensor,) = compare.run(a, b).tensors

    assert (tensor.relative_change, tensor.max_abs, tensor.rank) == (None, None, None)
    assert tensor.share_changed == 1.0


def test_bfloat16(weights, tmp_path):
    """
    A change between bfloat16 tensors is measured exactly.
    """
    tensors = {w.original: torch.from_numpy(w.value).bfloat16() for w in weights}
    save_torch(tensors, tmp_path / "a.safetensors")
    before = tensors[K_ORIGINAL].double()
    tensors[K_ORIGINAL] = tensors[K_ORIGINAL] * 2
    save_torch(tensors, tmp_path / "b.safetensors")

    (tensor,) = compare.run(tmp_path / "a.safetensors", tmp_path / "b.safetensors").tensors

    assert tensor.relative_change == pytest.approx(1.0)
    assert tensor.max_abs == float(before.abs().max())


def test_metadata(weights, tmp_path):
    """
    Changed metadata is shown with both values, and is not a difference of tensors.
    """
    a = write_single_file(tmp_path / "a.safetensors", weights, metadata={"x": "1", "y": "2"})
    b = write_single_file(tmp_path / "b.safetensors", weights, metadata={"x": "3" * 300})

    diff = compare.run(a, b)

    assert diff.metadata == {
        "x": {"a": "1", "b": "3" * 200 + "… (300 characters)"},
        "y": {"a": "2", "b": None},
    }
    assert diff.is_same


def test_manifest(weights, tmp_path):
    """
    The comparison with the manifest is the same whichever side is the edit.
    """
    base = write_folder(tmp_path / "base", weights)
    other = write_folder(tmp_path / "other", changed(weights, "conv_in.bias", np.float32(1)))
    output = edit(base, tmp_path / "out").paths.root

    forth, back, against = (
        compare.run(a, b) for a, b in ((base, output), (output, base), (other, output))
    )

    assert (forth.manifest.matches, forth.manifest.side) == (True, "b")
    assert (back.manifest.matches, back.manifest.side) == (True, "a")
    assert [tensor.name for tensor in forth.tensors] == sorted(NAMES)
    assert (against.manifest.matches, against.manifest.is_base) == (False, False)
    assert against.manifest.unexpected == ("unet/diffusion_pytorch_model.safetensors:conv_in.bias",)


def test_manifests_of_two_edits(weights, tmp_path):
    """
    An edit of an edit is compared with its own manifest; a sibling is not its base.
    """
    base = write_single_file(tmp_path / "base.safetensors", weights)
    first = edit(base, tmp_path / "first", names=NAMES[:2]).paths.root
    second = edit(first, tmp_path / "second", names=NAMES[2:]).paths.root
    sibling = edit(base, tmp_path / "sibling", names=NAMES[2:]).paths.root

    forth, back, apart = (
        compare.run(a, b).manifest for a, b in ((first, second), (second, first), (first, sibling))
    )

    assert (forth.matches, forth.side) == (True, "b")
    assert (back.matches, back.side) == (True, "a")
    assert (apart.matches, apart.side, apart.is_base) == (False, "b", False)


def test_missing_changes(weights, tmp_path):
    """
    Listed tensors that did not change are reported.
    """
    base = write_single_file(tmp_path / "base.safetensors", weights)
    paths = edit(base, tmp_path / "out").paths
    paths.root.write_bytes(base.read_bytes())

    verdict = compare.run(base, paths.root).manifest

    assert (verdict.matches, verdict.is_base) == (False, True)
    assert len(verdict.missing) == len(NAMES)


def test_manifest_across_layouts(weights, tmp_path):
    """
    The manifest of an edited file also fits the folder of its base.
    """
    folder = write_folder(tmp_path / "folder", weights)
    file = write_single_file(tmp_path / "file.safetensors", weights)
    output = edit(file, tmp_path / "out").paths.root

    diff = compare.run(folder, output)

    assert diff.manifest.matches is True
    assert {tensor.name for tensor in diff.tensors if tensor.status == "changed"} == set(NAMES)


def test_imports(weights, tmp_path):
    """
    Diff, verify and undo do not import torch, and equal files need no numpy.
    """
    base = write_single_file(tmp_path / "base.safetensors", weights)
    output = edit(base, tmp_path / "out").paths.root
    code = f"""
import sys
from pathlib import Path
from loco_cli.commands import diff as compare
from loco_cli.commands import undo, verify
base, output = Path({str(base)!r}), Path({str(output)!r})
verify.run(output)
undo.run(output)
compare.run(base, base)
assert "numpy" not in sys.modules
assert len(compare.run(base, output).tensors) == 4
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
