"""Edits that cannot be written, and places where none may go: what was there before stays."""

import pytest

from loco_cli.checkpoint.layout import open_checkpoint
from loco_cli.checkpoint.reader import read_bytes
from loco_cli.errors import EditError, MachineError, OutputExists, RequestError
from loco_cli.workflows import compare, verify
from loco_cli.workflows.write import write_edit
from tests.checkpoints import K, sd1_weights, tree_bytes, write_folder, write_single_file
from tests.edits import EXTRA_FILES, NAMES, edit, manifest_of, patch_of


@pytest.fixture
def base(tmp_path):
    return write_folder(tmp_path / "base", sd1_weights())


@pytest.fixture
def base_file(tmp_path):
    return write_single_file(tmp_path / "base.safetensors", sd1_weights())


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_edit_without_effect_is_an_error(base, tmp_path):
    """
    Patches that hold what is there already are no edit, and nothing is written.
    """
    checkpoint = open_checkpoint(base)
    patches = {slot: read_bytes(slot) for slot in checkpoint.slots("unet", K)}

    with pytest.raises(EditError, match="changes nothing: all of its 1 tensors keep their bytes"):
        write_edit(checkpoint, tmp_path / "out", patches, lambda facts: None, {})

    assert listing(tmp_path) == ["base"]


def test_a_tensor_without_effect_is_not_listed(base, tmp_path):
    """
    Of two patches only the one that changes something is in the manifest.
    """
    checkpoint = open_checkpoint(base)
    (same,), (other,) = checkpoint.slots("unet", NAMES[0]), checkpoint.slots("unet", NAMES[1])
    patches = {same: read_bytes(same), other: patch_of(other)}

    written = write_edit(
        checkpoint, tmp_path / "out", patches, lambda facts: manifest_of(checkpoint, facts), {}
    )

    assert [tensor.name for tensor in written.manifest.tensors] == [NAMES[1]]
    assert compare.run(base, tmp_path / "out").manifest.matches


@pytest.mark.parametrize("error", [KeyboardInterrupt, MachineError("x")])
def test_an_interruption_leaves_nothing(error, base, tmp_path):
    """
    Ctrl-C while the manifest is made, with all weights written, leaves the folder as it was.
    """
    checkpoint = open_checkpoint(base)
    patches = {slot: patch_of(slot) for slot in checkpoint.slots("unet", K)}

    def interrupt(facts):
        raise error

    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        write_edit(checkpoint, tmp_path / "out", patches, interrupt, EXTRA_FILES)

    assert listing(tmp_path) == ["base"]


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
