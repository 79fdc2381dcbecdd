"""Failures and refusals of a write, which keep all existing files."""

import shutil
from contextlib import contextmanager

import pytest

from loco_cli.checkpoint.layout import open_checkpoint
from loco_cli.checkpoint.reader import read_bytes
from loco_cli.commands import diff as compare
from loco_cli.commands import verify
from loco_cli.errors import CheckpointError, EditError, MachineError, OutputExists, RequestError
from loco_cli.outputs.checkpoint import edited_copy
from loco_cli.outputs.paths import OutputPaths
from tests.checkpoints import K, tree_bytes
from tests.edits import NAMES, edit, manifest_of, patch_of, write_patches


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def room_for(n_bytes):
    """Limit the size of every file that this process writes."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_lists_changed_tensors_only(base, tmp_path, golden):
    """
    The manifest lists tensors whose bytes changed; an edit that changes none writes no files.
    """
    checkpoint = open_checkpoint(base)
    (same,), (other,) = checkpoint.slots("unet", NAMES[0]), checkpoint.slots("unet", NAMES[1])

    with golden.raises(EditError):
        write_patches(checkpoint, tmp_path / "out", {same: read_bytes(same)})
    assert listing(tmp_path) == ["base"]

    patches = {same: read_bytes(same), other: patch_of(other)}
    written = write_patches(checkpoint, tmp_path / "out", patches)
    assert [tensor.name for tensor in written.manifest.tensors] == [NAMES[1]]
    assert compare.run(base, tmp_path / "out").manifest.matches


@pytest.mark.linux  # file size limits and their error message
def test_a_full_disk_keeps_the_old_output(base_file, tmp_path, golden):
    """
    A write that fails at any point is a MachineError, and only the old output remains.
    """
    old = edit(base_file, tmp_path / "out", names=NAMES[:1]).paths
    before = {name: (tmp_path / name).read_bytes() for name in listing(tmp_path)}
    for share in (0.02, 0.5, 0.999):
        with (
            golden.raises(MachineError, "out.safetensors"),
            room_for(int(share * base_file.stat().st_size)),
        ):
            edit(base_file, old.root, force=True)

        assert {name: (tmp_path / name).read_bytes() for name in listing(tmp_path)} == before


def test_refuses_content_of_another_size(base, tmp_path, golden):
    """
    New content must be as long as the tensor that it replaces.
    """
    checkpoint = open_checkpoint(base)
    (slot,) = checkpoint.slots("unet", K)

    with golden.raises(EditError, "3 bytes", "192"):
        write_patches(checkpoint, tmp_path / "out", {slot: b"abc"})


def flip_last_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["model_index.json", "unet/diffusion_pytorch_model.safetensors"])
def test_refuses_a_base_that_changes_during_the_copy(file, base, tmp_path, golden):
    """
    A base file that changes after it was hashed is refused, as its manifest would be wrong.
    """
    checkpoint = open_checkpoint(base)
    patches = {slot: patch_of(slot) for slot in checkpoint.slots("unet", K)}

    def change(*facts):
        flip_last_byte(base / file)
        return manifest_of(checkpoint, *facts)

    with golden.raises(CheckpointError, file.rpartition("/")[2]):
        write_patches(checkpoint, tmp_path / "out", patches, change)

    assert listing(tmp_path) == ["base"]


def test_refuses_a_base_that_changed_after_it_was_opened(base, tmp_path, golden):
    """
    A base file whose header changed is refused, as its tensors may have moved.
    """
    checkpoint = open_checkpoint(base)
    slots, output = checkpoint.slots("unet", K), OutputPaths.of(tmp_path / "out", is_folder=True)
    path = slots[0].source
    path.write_bytes(path.read_bytes().replace(b"conv_in.bias", b"bias.conv_in"))

    with (
        golden.raises(CheckpointError, path.name),
        edited_copy(checkpoint, output, slots, "edited"),
    ):
        pass

    assert listing(tmp_path) == ["base"]


@pytest.mark.parametrize("is_file", [True, False])
def test_refuses_a_base_that_differs_from_its_manifest(is_file, base, base_file, tmp_path, golden):
    """
    An output that was changed later is a base only without its manifest.
    """
    first = edit(base_file if is_file else base, tmp_path / "first", names=NAMES[:2]).paths
    flip_last_byte(
        first.root if is_file else first.root / "vae/diffusion_pytorch_model.safetensors"
    )

    with golden.raises(CheckpointError, first.manifest.name):
        edit(first.root, tmp_path / "second")

    assert not any("second" in name for name in listing(tmp_path))
    first.manifest.unlink()
    assert edit(first.root, tmp_path / "second").manifest.base.parent


def test_the_parent_is_the_manifest_rather_than_the_stamp(base_file, tmp_path, golden):
    """
    The manifest beside a base decides, as the stamp may be of its base or of another file.
    """
    first = edit(base_file, tmp_path / "first", names=NAMES[:2])
    second = edit(first.paths.root, tmp_path / "second", names=NAMES[2:], stamp=False)

    third = edit(second.paths.root, tmp_path / "third")

    assert third.manifest.base.parent.manifest == second.manifest.digest()
    shutil.copy(third.paths.root, first.paths.root)
    with golden.raises(CheckpointError, first.paths.manifest.name):
        edit(first.paths.root, tmp_path / "fourth")


def test_refuses_an_output_at_its_base(base, base_file, tmp_path, golden):
    """
    An output must not be the base, inside it or around it, even with force.
    """
    before = tree_bytes(base), base_file.read_bytes()
    places = {base: ("base", "base/out", "base/unet/out", ""), base_file: ("base.safetensors",)}
    for source, names in places.items():
        for name in names:
            with golden.raises(OutputExists, name):
                edit(source, tmp_path / name, force=True)

    assert (tree_bytes(base), base_file.read_bytes()) == before


def test_replaces_an_existing_output_only_with_force(base, base_file, tmp_path, golden):
    """
    An existing output is refused, and replaced as a whole with force, if loco wrote all its files.
    """
    for start, output in ((base_file, tmp_path / "out2"), (base, tmp_path / "out")):
        first = edit(start, output, names=NAMES[:1])
        with golden.raises(OutputExists, output.name):
            edit(start, output)
        second = edit(start, output, force=True)
        assert first.manifest.tensors != second.manifest.tensors
        assert verify.run(second.paths.root).ok

    (output / "thesis.docx").write_text("three years")
    with golden.raises(OutputExists, "thesis.docx"):
        edit(base, output, force=True)
    assert (output / "thesis.docx").read_text() == "three years"


@pytest.mark.parametrize("is_file", [True, False])
def test_refuses_an_output_that_appeared_during_the_edit(is_file, base, base_file, tmp_path):
    """
    An output that another program wrote during the solve stays.
    """
    checkpoint = open_checkpoint(base_file if is_file else base)
    patches = {slot: patch_of(slot) for slot in checkpoint.slots("unet", K)}
    written = []

    def meanwhile(*facts):
        written.append(edit(checkpoint.root, tmp_path / "out"))
        return manifest_of(checkpoint, *facts)

    with pytest.raises(OutputExists):
        write_patches(checkpoint, tmp_path / "out", patches, meanwhile)

    assert verify.run(written[0].paths.root).ok
    assert not [name for name in listing(tmp_path) if name.endswith(".partial")]


def test_refuses_impossible_outputs(base, tmp_path, golden):
    """
    The parent folder must exist, and a folder is not named like a file.
    """
    for name in ("nowhere/out", "out.safetensors"):
        with golden.raises(RequestError, name.removesuffix("/out")):
            edit(base, tmp_path / name)
