"""`loco undo`: the base is restored byte for byte, or nothing is written."""

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


def test_default_destination(base, output, tmp_path):
    """
    Without a destination, the base gets its own name, or `-undone` if that name is taken.
    """
    taken = undo.run(output)
    base.rename(tmp_path / "elsewhere")
    free = undo.run(output)

    assert taken.restored.endswith("out-undone")
    assert free.restored.endswith("base")
    assert tree_bytes(tmp_path / "base") == tree_bytes(tmp_path / "elsewhere")
    assert tree_bytes(tmp_path / "out-undone") == tree_bytes(tmp_path / "base")


def test_suffix_of_a_restored_file(base_file, tmp_path):
    """
    A restored file has its suffix even if the destination has none.
    """
    output = edit(base_file, tmp_path / "out").paths.root

    undo.run(output)
    undo.run(output, tmp_path / "typed")

    for name in ("out-undone.safetensors", "typed.safetensors"):
        assert (tmp_path / name).read_bytes() == base_file.read_bytes()


def test_report_of_restored_files(output, tmp_path):
    """
    The report lists every restored file.
    """
    report = undo.run(output, tmp_path / "back").to_json()

    assert report["schema"] == "loco.undo/1"
    assert {file["path"] for file in report["files"]} == set(tree_bytes(tmp_path / "back"))


def test_undo_without_manifest(base, output, tmp_path):
    """
    Undo needs only the undo file.
    """
    (output / "loco-manifest.json").unlink()

    undo.run(output, tmp_path / "back")

    assert tree_bytes(tmp_path / "back") == tree_bytes(base)


@pytest.mark.parametrize("name", ["conv_in.weight", "mid_block.resnets.0.conv1.bias"])
def test_damaged_output(golden, name, output, tmp_path):
    """
    If the result does not have the hash of the base, it does not appear.
    """
    content = bytearray((output / UNET).read_bytes())
    content[read_header(output / UNET).span(name)[0]] ^= 1
    (output / UNET).write_bytes(content)

    with golden.raises(VerificationError, UNET, "loco verify"):
        undo.run(output, tmp_path / "back")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "out"]


def test_damage_in_an_edited_tensor(base, output, tmp_path):
    """
    Undo replaces edited tensors, so damage to them does no harm.
    """
    content = bytearray((output / UNET).read_bytes())
    content[read_header(output / UNET).span(NAMES[0])[0]] ^= 1
    (output / UNET).write_bytes(content)

    undo.run(output, tmp_path / "back")

    assert tree_bytes(tmp_path / "back") == tree_bytes(base)


def test_undo_of_a_lora(golden, base_file, tmp_path):
    """
    A LoRA is refused, since it does not change its base.
    """
    paths = edit(base_file, tmp_path / "out").paths
    tree = json.loads(paths.manifest.read_text())
    tree["output"]["kind"] = "lora"
    paths.manifest.write_text(json.dumps(tree))

    with golden.raises(RequestError, "LoRA"):
        undo.run(paths.root)


def test_existing_destination(base, output, tmp_path):
    """
    Undo never overwrites the base, the output or a foreign folder, even with `force`.
    """
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.docx").write_text("three years")

    for place in (base, output, output / "inside", tmp_path / "mine"):
        with pytest.raises(OutputExists):
            undo.run(output, place, force=place != base)


def test_path_without_an_output(golden, base, tmp_path):
    """
    A model without an undo file cannot be restored, and a missing path is a wrong request.
    """
    with golden.raises(VerificationError, "loco-undo.safetensors"):
        undo.run(base)
    with golden.raises(RequestError, "nothing"):
        undo.run(tmp_path / "nothing")


@pytest.mark.parametrize("path", ["../escaped", "/tmp/escaped"])
def test_hostile_path_in_an_undo_file(golden, path, output, tmp_path):
    """
    A path in an undo file cannot leave the destination.
    """
    file = output / "loco-undo.safetensors"
    rewrite_base(file, lambda base: base["files"][0].update(path=path))

    with golden.raises(CheckpointError, "loco-undo.safetensors"):
        undo.run(output, tmp_path / "back")

    assert not (tmp_path / "escaped").exists()


def test_undo_file_with_other_tensors(golden, output, tmp_path):
    """
    An undo file is refused if the output lacks one of its tensors.
    """
    file = output / "loco-undo.safetensors"
    content = file.read_bytes()
    file.write_bytes(content.replace(NAMES[0].encode(), NAMES[0].encode()[::-1]))

    with golden.raises(CheckpointError, "loco-undo.safetensors"):
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
