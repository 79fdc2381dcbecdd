"""Edited copies of every layout: complete, verified, and undone byte for byte."""

import json

import numpy as np
import pytest
from safetensors import safe_open

from loco_cli import __version__
from loco_cli.checkpoint.layout import open_checkpoint
from loco_cli.checkpoint.reader import read_bytes
from loco_cli.commands import diff as compare
from loco_cli.commands import undo, verify
from loco_cli.outputs.checkpoint import _in_order, edited_copy
from loco_cli.outputs.paths import OutputPaths, read_manifest
from tests.checkpoints import tree_bytes, write_folder, write_single_file
from tests.edits import (
    EXTRA_FILES,
    NAMES,
    RECIPE,
    edit,
    figures_of,
    manifest_of,
    pages_of,
    patch_of,
)

LAYOUTS = ("folder", "sharded", "variants", "bare unet", "single file")


def make(layout, tmp_path, weights):
    if layout == "single file":
        return write_single_file(tmp_path / "base.safetensors", weights)
    options = {
        "sharded": {"n_shards": 3},
        "variants": {"dtype": np.float32, "variants": {"fp16": np.float16}},
    }
    folder = write_folder(tmp_path / "base", weights, **options.get(layout, {}))
    return folder / "unet" if layout == "bare unet" else folder


@pytest.mark.parametrize("stamp", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_edited_and_restored(layout, stamp, weights, tmp_path):
    """
    An edit changes the planned tensors only, and undo restores every byte.
    """
    base = make(layout, tmp_path, weights)
    before = tree_bytes(base)
    output = tmp_path / "edited"

    written = edit(base, output, stamp=stamp)

    found = verify.run(written.paths.root)
    assert (found.ok, found.failures) == (True, ())
    diff = compare.run(base, written.paths.root)
    n_variants = 2 if layout == "variants" else 1
    assert diff.counts.changed == len(NAMES) * n_variants == len(diff.tensors)
    assert diff.manifest.matches is True
    listed = {(None if base.is_file() else t.file, t.name) for t in written.manifest.tensors}
    assert listed == {(None if base.is_file() else t.file, t.name) for t in diff.tensors}
    assert all(tensor.rank == 1 for tensor in diff.tensors)
    restored = tmp_path / ("back.safetensors" if base.is_file() else "back")
    undo.run(written.paths.root, restored)
    assert tree_bytes(restored) == before
    assert tree_bytes(base) == before


def test_other_bytes_are_those_of_the_base(base_file, tmp_path):
    """
    Tensors keep order and bytes unless planned, and metadata except for the stamp.
    """
    written = edit(base_file, tmp_path / "edited")
    unstamped = edit(base_file, tmp_path / "unstamped", stamp=False).paths.root

    a, b = open_checkpoint(base_file), open_checkpoint(written.paths.root)
    planned = {tensor.name for tensor in written.manifest.tensors}
    assert list(a.files[0].header.tensors) == list(b.files[0].header.tensors)
    for key, (slot,) in a.slots_by_name.items():
        (other,) = b.slots_by_name[key]
        assert (read_bytes(slot) == read_bytes(other)) == (slot.tensor not in planned)
    stamp = {"loco.version": __version__, "loco.manifest": written.manifest.digest()}
    with safe_open(written.paths.root, "np") as file:
        assert file.metadata() == {"format": "pt", **stamp}
    n_bytes = a.files[0].header.data_start
    assert unstamped.read_bytes()[:n_bytes] == base_file.read_bytes()[:n_bytes]


def test_weights_may_come_one_by_one_in_any_order(base_file, tmp_path):
    """
    The order of `put` does not change the output.
    """
    checkpoint = open_checkpoint(base_file)
    slots = tuple(slot for name in NAMES for slot in checkpoint.slots("unet", name))

    output = OutputPaths.of(tmp_path / "one by one", is_folder=False)
    with edited_copy(checkpoint, output, slots, "edited") as copy:
        for slot in reversed(slots):
            copy.put(slot, patch_of(slot), figures_of(slot))
        written = copy.finish(
            lambda *facts: manifest_of(checkpoint, *facts), lambda _: pages_of(checkpoint)
        )

    at_once = edit(base_file, tmp_path / "at once")
    assert written.manifest.output.files[0].path == "one by one.loco.html"
    assert written.paths.root.read_bytes() == at_once.paths.root.read_bytes()
    assert written.paths.undo.read_bytes() == at_once.paths.undo.read_bytes()


def test_an_output_may_be_a_base_again(base, tmp_path):
    """
    A second edit names the first as its parent, and undo restores the first with all its files.
    """
    first = edit(base, tmp_path / "first", names=NAMES[:2])
    second = edit(first.paths.root, tmp_path / "second", names=NAMES[2:])

    assert second.manifest.base.parent.manifest == first.manifest.digest()
    assert verify.run(second.paths.root).ok
    undo.run(second.paths.root, tmp_path / "once")
    assert tree_bytes(tmp_path / "once") == tree_bytes(first.paths.root)
    undo.run(tmp_path / "once", tmp_path / "twice")
    assert tree_bytes(tmp_path / "twice") == tree_bytes(base)


def test_pickles_are_left_out_and_named(base, tmp_path):
    """
    A pickle beside safetensors is not copied, and manifest and undo list it.
    """
    (base / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x02}")

    written = edit(base, tmp_path / "out")
    restored = undo.run(tmp_path / "out", tmp_path / "back")

    assert written.manifest.base.left_out == ("unet/diffusion_pytorch_model.bin",)
    assert restored.left_out == ("unet/diffusion_pytorch_model.bin",)
    assert not (tmp_path / "out" / "unet" / "diffusion_pytorch_model.bin").exists()


@pytest.mark.linux  # Windows needs a privilege to create links
def test_links_become_files(base, tmp_path):
    """
    A base of links, as in a cache of the Hub, gives an output of regular files.
    """
    (tmp_path / "blobs").mkdir()
    for n, path in enumerate(sorted(path for path in base.rglob("*") if path.is_file())):
        path.symlink_to(path.rename(tmp_path / "blobs" / str(n)))

    edit(base, tmp_path / "out")

    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))
    assert verify.run(tmp_path / "out").ok


def test_writes_the_files_of_the_interface(base, base_file, tmp_path):
    """
    Outputs have files with fixed names, and the manifest the keys of the interface in order.
    """
    written = edit(base, tmp_path / "out")
    edit(base_file, tmp_path / "single")

    files, own = tree_bytes(tmp_path / "out"), tree_bytes(base)
    found = read_manifest(tmp_path / "out")
    document = json.loads(files["loco-manifest.json"])
    ends = ("manifest.json", "recipe.yaml", "undo.safetensors", "report.html")
    assert set(files) == set(own) | {f"loco-{end}" for end in ends}
    assert files["loco-recipe.yaml"].decode() == RECIPE
    assert files["README.md"].decode() == EXTRA_FILES["card"]
    ends = (".safetensors", ".loco.json", ".loco.yaml", ".undo.safetensors", ".loco.html")
    assert {path.name for path in tmp_path.glob("single*")} == {f"single{end}" for end in ends}
    assert (found.manifest, found.digest) == (written.manifest, written.manifest.digest())
    keys = "schema loco_version created command recipe model base output"
    assert list(document)[:8] == keys.split()
    listed = {file["path"] for file in document["output"]["files"]}
    assert listed == set(files) - {"loco-manifest.json"}


def test_the_manifest_appears_last(tmp_path):
    """
    A manifest never appears before the weights that it describes.
    """
    paths = OutputPaths.of(tmp_path / "out", is_folder=False)

    assert _in_order(paths)[-2:] == (paths.root, paths.manifest)
