"""The base comes back byte for byte, or nothing appears at all."""

import json
import struct

import pytest

from loco_cli.checkpoint.header import read_header
from loco_cli.commands import undo
from loco_cli.errors import CheckpointError, OutputExists, RequestError, VerificationError
from tests.checkpoints import sd1_weights, tree_bytes, write_folder, write_single_file
from tests.edits import NAMES, edit

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def base(tmp_path):
    return write_folder(tmp_path / "base", sd1_weights())


@pytest.fixture
def output(base, tmp_path):
    return edit(base, tmp_path / "out").paths.root


@pytest.fixture
def base_file(tmp_path):
    return write_single_file(tmp_path / "base.safetensors", sd1_weights())


def test_goes_beside_the_output_under_the_base_s_name(base, output, tmp_path):
    """
    Without a destination the base's own name is taken, and `-undone` where that is not free.
    """
    taken = undo.run(output)
    base.rename(tmp_path / "elsewhere")
    free = undo.run(output)

    assert taken.restored.endswith("out-undone")
    assert free.restored.endswith("base")
    assert tree_bytes(tmp_path / "base") == tree_bytes(tmp_path / "elsewhere")
    assert tree_bytes(tmp_path / "out-undone") == tree_bytes(tmp_path / "base")


def test_a_file_keeps_its_suffix(base_file, tmp_path):
    """
    A file is restored as a file, whether or not the suffix is typed.
    """
    output = edit(base_file, tmp_path / "out").paths.root

    undo.run(output)
    undo.run(output, tmp_path / "typed")

    for name in ("out-undone.safetensors", "typed.safetensors"):
        assert (tmp_path / name).read_bytes() == base_file.read_bytes()


def test_says_what_it_restored(output, tmp_path):
    """
    The report lists every file with the hash that the base had.
    """
    report = undo.run(output, tmp_path / "back").to_json()

    assert report["schema"] == "loco.undo/1"
    assert {file["path"] for file in report["files"]} == set(tree_bytes(tmp_path / "back"))


def test_works_without_the_manifest(base, output, tmp_path):
    """
    The undo file is enough.
    """
    (output / "loco-manifest.json").unlink()

    undo.run(output, tmp_path / "back")

    assert tree_bytes(tmp_path / "back") == tree_bytes(base)


@pytest.mark.parametrize("name", ["conv_in.weight", "mid_block.resnets.0.conv1.bias"])
def test_a_damaged_output_is_not_restored(name, output, tmp_path):
    """
    What would not be the base does not appear, and the error says whom to ask.
    """
    content = bytearray((output / UNET).read_bytes())
    content[read_header(output / UNET).span(name)[0]] ^= 1
    (output / UNET).write_bytes(content)

    with pytest.raises(VerificationError, match="does not give back the base's") as caught:
        undo.run(output, tmp_path / "back")

    assert "loco verify" in caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "out"]


def test_a_changed_edit_is_undone_all_the_same(base, output, tmp_path):
    """
    Damage in an edited tensor does no harm: undoing replaces it.
    """
    content = bytearray((output / UNET).read_bytes())
    content[read_header(output / UNET).span(NAMES[0])[0]] ^= 1
    (output / UNET).write_bytes(content)

    undo.run(output, tmp_path / "back")

    assert tree_bytes(tmp_path / "back") == tree_bytes(base)


def test_a_lora_has_nothing_to_undo(base_file, tmp_path):
    """
    Of a LoRA it is said that its base was never changed.
    """
    paths = edit(base_file, tmp_path / "out").paths
    tree = json.loads(paths.manifest.read_text())
    tree["output"]["kind"] = "lora"
    paths.manifest.write_text(json.dumps(tree))

    with pytest.raises(RequestError, match="there is nothing to undo"):
        undo.run(paths.root)


def test_refuses_a_destination_that_is_taken(base, output, tmp_path):
    """
    What is there stays: the base, the output, a folder that is not ours, even with force.
    """
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.docx").write_text("three years")

    for place in (base, output, output / "inside", tmp_path / "mine"):
        with pytest.raises(OutputExists):
            undo.run(output, place, force=place != base)


def test_refuses_what_loco_did_not_write(base, tmp_path):
    """
    A model without an undo file is told apart from a path that is not there.
    """
    with pytest.raises(VerificationError, match="has no undo file"):
        undo.run(base)
    with pytest.raises(RequestError, match="there is no output"):
        undo.run(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("path", "words"),
    [("../escaped", "its list of base files cannot be read"), ("/tmp/escaped", "cannot be read")],
)
def test_a_hostile_undo_file_writes_nowhere_else(path, words, output, tmp_path):
    """
    Paths in an undo file cannot lead out of the destination.
    """
    file = output / "loco-undo.safetensors"
    rewrite_base(file, lambda base: base["files"][0].update(path=path))

    with pytest.raises(CheckpointError, match=words):
        undo.run(output, tmp_path / "back")

    assert not (tmp_path / "escaped").exists()


def test_an_undo_file_must_fit_the_output(output, tmp_path):
    """
    An undo tensor of another name than the output's is refused.
    """
    file = output / "loco-undo.safetensors"
    content = file.read_bytes()
    file.write_bytes(content.replace(NAMES[0].encode(), NAMES[0].encode()[::-1]))

    with pytest.raises(CheckpointError, match="does not fit"):
        undo.run(output, tmp_path / "back")


def rewrite_base(path, change):
    """Rewrite the list of base files in an undo file's header."""
    content = path.read_bytes()
    end = 8 + struct.unpack("<Q", content[:8])[0]
    tree = json.loads(content[8:end])
    base = json.loads(tree["__metadata__"]["loco.base"])
    change(base)
    tree["__metadata__"]["loco.base"] = json.dumps(base)
    raw = json.dumps(tree).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + content[end:])
