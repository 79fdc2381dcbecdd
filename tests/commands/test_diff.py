"""What differs between two checkpoints, in whatever layouts they come."""

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
    """Return the weights with one UNet tensor moved."""
    return tuple(
        Weight(w.original, w.component, w.name, w.value + step) if w.name == name else w
        for w in weights
    )


@pytest.mark.parametrize("layout", ["folder", "file"])
def test_a_copy_is_the_same(layout, weights, tmp_path):
    """
    Two copies of one checkpoint have nothing that differs.
    """
    write = write_folder if layout == "folder" else write_single_file
    a, b = (write(tmp_path / f"{name}.safetensors", weights) for name in "ab")

    diff = compare.run(a, b)

    assert diff.is_same
    assert diff.counts.identical == diff.a.tensors == diff.b.tensors
    assert diff.manifest.found is False


def test_a_folder_and_a_file_of_one_model_are_the_same(weights, tmp_path):
    """
    Layouts are matched by canonical names: only the buffers of the original layout are left over.
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


def test_shards_and_variants_are_copies_not_differences(weights, tmp_path):
    """
    However a component is cut into files, its tensors are the same.
    """
    whole = write_folder(tmp_path / "whole", weights)
    sharded = write_folder(tmp_path / "sharded", weights, n_shards=3)
    variants = {"fp16": np.float16}
    both = write_folder(tmp_path / "both", weights, dtype=np.float32, variants=variants)
    file = write_single_file(tmp_path / "file.safetensors", weights)

    assert compare.run(whole, sharded).is_same
    assert compare.run(both, file).counts.identical == len(weights)


def test_measures_what_changed(weights, tmp_path):
    """
    A change is told by its size, its largest step, its rank and the share of elements.
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


def test_tells_every_kind_of_difference(weights, tmp_path):
    """
    Changed, retyped, reshaped, and present on one side only are told apart and counted.
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


def test_a_figure_that_is_not_finite_is_null(weights, tmp_path):
    """
    A NaN in a tensor makes its figures null, so that the document stays JSON.
    """
    a = write_single_file(tmp_path / "a.safetensors", weights)
    step = np.full((1,), np.nan, np.float32)
    b = write_single_file(tmp_path / "b.safetensors", changed(weights, K, step))

    (tensor,) = compare.run(a, b).tensors

    assert (tensor.relative_change, tensor.max_abs, tensor.rank) == (None, None, None)
    assert tensor.share_changed == 1.0


def test_reads_bfloat16_without_torch(weights, tmp_path):
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


def test_shows_changes_of_metadata(weights, tmp_path):
    """
    Metadata that differs is shown with both sides, and makes no difference by itself.
    """
    a = write_single_file(tmp_path / "a.safetensors", weights, metadata={"x": "1", "y": "2"})
    b = write_single_file(tmp_path / "b.safetensors", weights, metadata={"x": "3" * 300})

    diff = compare.run(a, b)

    assert diff.metadata == {
        "x": {"a": "1", "b": "3" * 200 + "… (300 characters)"},
        "y": {"a": "2", "b": None},
    }
    assert diff.is_same


def test_holds_the_change_against_the_manifest(weights, tmp_path):
    """
    The verdict is the same whichever side the edit is on, and names what does not fit.
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


def test_of_two_edits_that_of_the_other_counts(weights, tmp_path):
    """
    An edit of an edit is held against its own manifest from both sides; a sibling is no base.
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


def test_misses_what_the_manifest_promises(weights, tmp_path):
    """
    Tensors that the manifest lists and that did not change are named.
    """
    base = write_single_file(tmp_path / "base.safetensors", weights)
    paths = edit(base, tmp_path / "out").paths
    paths.root.write_bytes(base.read_bytes())

    verdict = compare.run(base, paths.root).manifest

    assert (verdict.matches, verdict.is_base) == (False, True)
    assert len(verdict.missing) == len(NAMES)


def test_across_layouts_the_manifest_still_fits(weights, tmp_path):
    """
    An edited file against the folder of its base: the changed tensors are the manifest's.
    """
    folder = write_folder(tmp_path / "folder", weights)
    file = write_single_file(tmp_path / "file.safetensors", weights)
    output = edit(file, tmp_path / "out").paths.root

    diff = compare.run(folder, output)

    assert diff.manifest.matches is True
    assert {tensor.name for tensor in diff.tensors if tensor.status == "changed"} == set(NAMES)


def test_needs_no_torch(weights, tmp_path):
    """
    Neither a diff with changes nor verify nor undo imports torch; identical files not even numpy.
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
