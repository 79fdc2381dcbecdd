"""Edits that cannot be written, and places where none may go: what was there before stays."""

import shutil
from contextlib import contextmanager

import pytest

from loco_cli.checkpoint.layout import open_checkpoint
from loco_cli.checkpoint.reader import read_bytes
from loco_cli.commands import diff as compare
from loco_cli.commands import verify
from loco_cli.errors import (
    CheckpointError,
    EditError,
    MachineError,
    OutputExists,
    RequestError,
)
from loco_cli.outputs.checkpoint import edited_copy
from loco_cli.outputs.paths import OutputPaths
from tests.checkpoints import K, sd1_weights, tree_bytes, write_folder, write_single_file
from tests.edits import NAMES, edit, manifest_of, patch_of, write_patches


@pytest.fixture
def base(tmp_path):
    return write_folder(tmp_path / "base", sd1_weights())


@pytest.fixture
def base_file(tmp_path):
    return write_single_file(tmp_path / "base.safetensors", sd1_weights())


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def room_for(n_bytes):
    """Have the system refuse to make any file longer than this."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_edit_without_effect_is_an_error(base, tmp_path):
    """
    Patches that hold what is there already are no edit, and nothing is written.
    """
    checkpoint = open_checkpoint(base)
    patches = {slot: read_bytes(slot) for slot in checkpoint.slots("unet", K)}

    with pytest.raises(EditError, match="changes nothing: all of its 1 tensors keep their bytes"):
        write_patches(checkpoint, tmp_path / "out", patches)

    assert listing(tmp_path) == ["base"]


def test_a_tensor_without_effect_is_not_listed(base, tmp_path):
    """
    Of two patches only the one that changes something is in the manifest.
    """
    checkpoint = open_checkpoint(base)
    (same,), (other,) = checkpoint.slots("unet", NAMES[0]), checkpoint.slots("unet", NAMES[1])
    patches = {same: read_bytes(same), other: patch_of(other)}

    written = write_patches(checkpoint, tmp_path / "out", patches)

    assert [tensor.name for tensor in written.manifest.tensors] == [NAMES[1]]
    assert compare.run(base, tmp_path / "out").manifest.matches


@pytest.mark.parametrize("error", [KeyboardInterrupt, MachineError("x")])
def test_an_interruption_leaves_nothing(error, base, tmp_path):
    """
    Ctrl-C while the manifest is made, with all weights written, leaves the folder as it was.
    """
    checkpoint = open_checkpoint(base)
    patches = {slot: patch_of(slot) for slot in checkpoint.slots("unet", K)}

    def interrupt(*facts):
        raise error

    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        write_patches(checkpoint, tmp_path / "out", patches, interrupt)

    assert listing(tmp_path) == ["base"]


def test_a_copy_that_is_not_finished_leaves_nothing(base, tmp_path):
    """
    Whatever goes wrong while the edit is solved, with the copy on its way, leaves no trace.
    """
    checkpoint = open_checkpoint(base)

    with (
        pytest.raises(OSError, match="no such model"),
        edited_copy(
            checkpoint,
            OutputPaths.of(tmp_path / "out", is_folder=True),
            checkpoint.slots("unet", K),
            "edited",
        ),
    ):
        raise OSError("no such model")

    assert listing(tmp_path) == ["base"]


@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_a_disk_that_fills_up_leaves_what_was_there(share, base_file, tmp_path):
    """
    A write that fails halfway is one sentence, nothing of it stays, and an old output does.
    """
    old = edit(base_file, tmp_path / "out", names=NAMES[:1]).paths
    before = {name: (tmp_path / name).read_bytes() for name in listing(tmp_path)}

    with (
        room_for(int(share * base_file.stat().st_size)),
        pytest.raises(MachineError, match=r"^cannot write `.*out\.safetensors`: File too large$"),
    ):
        edit(base_file, old.root, force=True)

    assert {name: (tmp_path / name).read_bytes() for name in listing(tmp_path)} == before


def test_a_patch_of_another_size_is_refused(base, tmp_path):
    """
    A new tensor is as long as the one that it replaces.
    """
    checkpoint = open_checkpoint(base)
    (slot,) = checkpoint.slots("unet", K)

    with pytest.raises(EditError, match=r"to_k\.weight` has 3 bytes, its place has 192"):
        write_patches(checkpoint, tmp_path / "out", {slot: b"abc"})


def flip_last_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["model_index.json", "unet/diffusion_pytorch_model.safetensors"])
def test_a_base_that_changes_meanwhile_is_refused(file, base, tmp_path):
    """
    A file that is written to after its hash was taken would make the manifest a lie.
    """
    checkpoint = open_checkpoint(base)
    patches = {slot: patch_of(slot) for slot in checkpoint.slots("unet", K)}

    def change(*facts):
        flip_last_byte(base / file)
        return manifest_of(checkpoint, *facts)

    with pytest.raises(CheckpointError, match="changed while it was read"):
        write_patches(checkpoint, tmp_path / "out", patches, change)

    assert listing(tmp_path) == ["base"]


def test_a_base_that_is_no_longer_what_was_opened_is_refused(base, tmp_path):
    """
    Tensors would be looked for in the wrong places of a file that was exchanged.
    """
    checkpoint = open_checkpoint(base)
    path = base / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes().replace(b"conv_in.bias", b"bias.conv_in"))

    with (
        pytest.raises(CheckpointError, match="changed since it was opened"),
        edited_copy(
            checkpoint,
            OutputPaths.of(tmp_path / "out", is_folder=True),
            checkpoint.slots("unet", K),
            "edited",
        ),
    ):
        pass

    assert listing(tmp_path) == ["base"]


@pytest.mark.parametrize("is_file", [True, False])
def test_a_base_that_its_manifest_belies_is_refused(is_file, base, base_file, tmp_path):
    """
    An output that was changed after it was written is no base, unless its manifest goes.
    """
    first = edit(base_file if is_file else base, tmp_path / "first", names=NAMES[:2]).paths
    flip_last_byte(
        first.root if is_file else first.root / "vae/diffusion_pytorch_model.safetensors"
    )

    with pytest.raises(CheckpointError, match="changed since its manifest was written") as told:
        edit(first.root, tmp_path / "second")

    assert first.manifest.name in told.value.hint
    assert not any("second" in name for name in listing(tmp_path))
    first.manifest.unlink()
    assert edit(first.root, tmp_path / "second").manifest.base.parent


def test_an_edit_beside_the_manifest_of_another_is_refused(base_file, tmp_path):
    """
    A stamp of its own does not excuse a file from the manifest that it lies beside.
    """
    first = edit(base_file, tmp_path / "first", names=NAMES[:2]).paths
    second = edit(base_file, tmp_path / "second", names=NAMES[2:]).paths
    shutil.copy(second.root, first.root)

    with pytest.raises(CheckpointError, match="changed since its manifest was written"):
        edit(first.root, tmp_path / "third")


def test_an_unstamped_edit_of_an_edit_has_its_manifest_for_parent(base_file, tmp_path):
    """
    The stamp that it has is the one of its own base, and its manifest is nearer.
    """
    first = edit(base_file, tmp_path / "first", names=NAMES[:2])
    second = edit(first.paths.root, tmp_path / "second", names=NAMES[2:], stamp=False)

    third = edit(second.paths.root, tmp_path / "third")

    assert third.manifest.base.parent.manifest == second.manifest.digest()


@pytest.mark.parametrize("place", ["base", "base/out", "base/unet/out"])
def test_refuses_an_output_in_its_base(place, base, tmp_path):
    """
    The base itself and any place inside it are no output, not even with force.
    """
    before = tree_bytes(base)

    with pytest.raises(OutputExists, match="which is only read"):
        edit(base, tmp_path / place, force=True)

    assert tree_bytes(base) == before


def test_refuses_an_output_around_its_base(base, tmp_path):
    """
    A folder that contains the base is not replaced.
    """
    with pytest.raises(OutputExists, match="contains"):
        edit(base, tmp_path, force=True)


@pytest.mark.parametrize("output", ["base", "base.safetensors"])
def test_refuses_to_write_over_a_base_file(output, base_file, tmp_path):
    """
    A file base is no output either, with or without its suffix.
    """
    before = base_file.read_bytes()

    with pytest.raises(OutputExists, match="which is only read"):
        edit(base_file, tmp_path / output, force=True)

    assert base_file.read_bytes() == before


def test_refuses_what_exists_and_replaces_it_with_force(base, base_file, tmp_path):
    """
    An output that is there is refused, and replaced as a whole with force.
    """
    for start, output in ((base, tmp_path / "out"), (base_file, tmp_path / "out2")):
        first = edit(start, output, names=NAMES[:1])
        with pytest.raises(OutputExists, match="exists"):
            edit(start, output)
        second = edit(start, output, force=True)
        assert first.manifest.tensors != second.manifest.tensors
        assert verify.run(second.paths.root).ok


@pytest.mark.parametrize("is_file", [True, False])
def test_refuses_what_has_come_meanwhile(is_file, base, base_file, tmp_path):
    """
    What another edit wrote while this one was solved stays, and is no longer asked for first.
    """
    checkpoint = open_checkpoint(base_file if is_file else base)
    patches = {slot: patch_of(slot) for slot in checkpoint.slots("unet", K)}
    written = []

    def meanwhile(*facts):
        written.append(edit(checkpoint.root, tmp_path / "out"))
        return manifest_of(checkpoint, *facts)

    with pytest.raises(OutputExists, match="exists"):
        write_patches(checkpoint, tmp_path / "out", patches, meanwhile)

    assert verify.run(written[0].paths.root).ok
    assert not [name for name in listing(tmp_path) if name.endswith(".partial")]


def test_refuses_to_replace_a_folder_that_is_not_ours(base, tmp_path):
    """
    Force does not throw away what `loco` did not write.
    """
    edit(base, tmp_path / "out")
    (tmp_path / "out" / "thesis.docx").write_text("three years")

    with pytest.raises(OutputExists, match=r"holds `thesis\.docx`, which `loco` did not write"):
        edit(base, tmp_path / "out", force=True)

    assert (tmp_path / "out" / "thesis.docx").read_text() == "three years"


def test_refuses_a_folder_that_is_not_there(base, tmp_path):
    """
    The folder for the output must exist.
    """
    with pytest.raises(RequestError, match="there is no folder"):
        edit(base, tmp_path / "nowhere" / "out")


def test_refuses_a_file_name_for_a_folder(base, tmp_path):
    """
    A folder base gives a folder, and its name must not promise a file.
    """
    with pytest.raises(RequestError, match="is a folder, as the base is"):
        edit(base, tmp_path / "out.safetensors")
