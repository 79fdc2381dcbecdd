"""One flipped byte, and the output no longer holds: where it was flipped, and what is said."""

import json
import shutil

import numpy as np
import pytest

from loco_cli.checkpoint.header import read_header
from loco_cli.commands import verify
from loco_cli.errors import RequestError, VerificationError
from tests.checkpoints import sd1_weights, write_folder, write_single_file
from tests.edits import NAMES, edit

UNET = "unet/diffusion_pytorch_model.safetensors"
UNTOUCHED = "conv_in.weight"


@pytest.fixture(scope="module")
def output_once(tmp_path_factory):
    home = tmp_path_factory.mktemp("verify")
    base = write_folder(home / "base", sd1_weights())
    edit(base, home / "out")
    return home / "out"


@pytest.fixture
def output(output_once, tmp_path):
    """A fresh copy of an edited folder."""
    return shutil.copytree(output_once, tmp_path / "out")


@pytest.fixture
def output_file(tmp_path):
    base = write_single_file(tmp_path / "base.safetensors", sd1_weights())
    return edit(base, tmp_path / "out").paths


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def failures(output):
    verification = verify.run(output)
    assert verification.ok is not bool(verification.failures)
    assert all("\n" not in failure for failure in verification.failures)
    return "; ".join(verification.failures)


def test_accepts_what_was_written(output, output_file):
    """
    An untouched output holds, whether folder or file.
    """
    assert verify.run(output).to_json() == {
        "schema": "loco.verification/1",
        "ok": True,
        "failures": [],
    }
    assert verify.run(output_file.root).ok


def test_names_the_edited_tensor_with_the_flipped_byte(output):
    """
    A flipped bit in an edited tensor is found and its tensor named.
    """
    begin, _ = read_header(output / UNET).span(NAMES[0])
    flip(output / UNET, begin + 3)

    assert failures(output) == (
        f"`{UNET}` is not the file that was written: tensor `{NAMES[0]}` has changed"
    )


def test_tells_a_change_that_the_edit_did_not_make(output):
    """
    A flipped bit elsewhere is found, and told apart from the edit's own tensors.
    """
    begin, _ = read_header(output / UNET).span(UNTOUCHED)
    flip(output / UNET, begin)

    assert "the change is in a tensor that the edit left alone" in failures(output)


def test_tells_a_change_in_the_header(output):
    """
    A header that was written anew is found even where the tensors are as they were.
    """
    content = (output / UNET).read_bytes()
    (output / UNET).write_bytes(content.replace(b'"format":"pt"', b'"format":"qt"', 1))

    assert "the change is in its header" in failures(output)


@pytest.mark.parametrize(
    "name", ["vae/diffusion_pytorch_model.safetensors", "model_index.json", "README.md"]
)
def test_finds_a_flipped_byte_in_every_file(name, output):
    """
    Files that the edit only copied, and its own, are held against their hashes too.
    """
    flip(output / name, -1)

    assert f"`{name}` is not the file that was written" in failures(output)


def test_finds_a_damaged_undo_file(output):
    """
    A flipped bit in the undo file is found, with the tensor, and so is what it would lead to.
    """
    undo = output / "loco-undo.safetensors"
    begin, _ = read_header(undo).span(f"{UNET}:{NAMES[1]}")
    flip(undo, begin)

    found = failures(output)

    assert f"tensor `{UNET}:{NAMES[1]}` has changed" in found
    assert f"`{UNET}` does not give back the base's hash when it is undone" in found


def test_finds_files_that_are_missing_or_too_many(output):
    """
    A file too few and a file too many are both told.
    """
    (output / "model_index.json").unlink()
    (output / "unet" / "extra.safetensors").write_bytes(b"")
    (output / "loco-undo.safetensors").unlink()

    found = failures(output)

    assert "`model_index.json` is missing" in found
    assert "`loco-undo.safetensors` is missing" in found
    assert "`unet/extra.safetensors` is there, but the manifest does not list it" in found


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree["recipe"].update(text="another"),
        lambda tree: tree["edits"][0].update(subject="monet"),
        lambda tree: tree["base"]["files"][0].update(sha256="0" * 64),
        lambda tree: tree["tensors"].pop(),
    ],
)
def test_finds_an_altered_manifest(change, output):
    """
    Whatever the stamp covers cannot be changed in the manifest unnoticed.
    """
    path = output / "loco-manifest.json"
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))

    assert "one of the two was altered" in failures(output)


def test_the_stamp_leaves_out_what_says_nothing_of_the_weights(output):
    """
    Time and command line may be taken out of a manifest before it is published.
    """
    path = output / "loco-manifest.json"
    tree = json.loads(path.read_text())
    tree |= {"created": "", "command": [], "seconds": {"localize": 0, "solve": 0, "write": 0}}
    path.write_text(json.dumps(tree))

    assert verify.run(output).ok


def test_a_file_may_be_renamed_with_all_that_lies_beside_it(output_file):
    """
    A single file and its companions hold under a new common name.
    """
    moved = output_file.root.parent / "moved"
    moved.mkdir()
    for path in (output_file.root, *output_file.beside):
        path.rename(moved / path.name.replace("out", "new", 1))

    assert verify.run(moved / "new.safetensors").ok


def test_finds_a_manifest_that_belongs_to_another_output(output_file, tmp_path):
    """
    The companions of one edit do not fit the weights of another.
    """
    base = write_single_file(tmp_path / "base2.safetensors", sd1_weights(seed=1))
    other = edit(base, tmp_path / "other").paths
    output_file.manifest.write_bytes(other.manifest.read_bytes())

    found = failures(output_file.root)

    assert "one of the two was altered" in found
    assert "belongs to another base" in found


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff", "no UTF-8"),
        (b"{", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"{}", "is damaged"),
        (b'{"schema": 1, "schema": 2}', "a key is repeated"),
    ],
)
def test_a_damaged_manifest_is_a_failure(content, words, output):
    """
    A manifest that cannot be read is told as such, not as a traceback.
    """
    (output / "loco-manifest.json").write_bytes(content)

    assert words in failures(output)


@pytest.mark.parametrize("side", ["new", "old"])
def test_a_manifest_that_a_killed_edit_did_not_get_to(side, output_file):
    """
    Files are renamed one by one, and between the weights and their manifest an edit may be killed.
    """
    hidden = output_file.root.parent / f".{output_file.root.name}.0123abcd.partial" / side
    hidden.mkdir(parents=True)
    output_file.manifest.rename(hidden / output_file.manifest.name)
    assert verify.run(output_file.root).ok

    (hidden / output_file.root.name).write_bytes(b"")  # it would be that one's
    with pytest.raises(VerificationError, match="has no manifest"):
        verify.run(output_file.root)


def test_an_output_that_was_put_aside(output):
    """
    Of a folder that was killed between two renames it is said where it is.
    """
    hidden = output.parent / f".{output.name}.0123abcd.partial" / "old"
    hidden.mkdir(parents=True)
    output.rename(hidden / output.name)

    with pytest.raises(RequestError, match="there is no output") as told:
        verify.run(output)

    assert str(hidden / output.name) in told.value.hint


def test_a_hostile_path_in_a_manifest_is_refused(output):
    """
    A manifest cannot lead out of its folder.
    """
    path = output / "loco-manifest.json"
    tree = json.loads(path.read_text())
    tree["output"]["files"][0]["path"] = "../../etc/passwd"
    path.write_text(json.dumps(tree))

    assert "output.files.0.path" in failures(output)
    assert "must be relative and stay in its folder" in failures(output)


def test_asks_for_an_output(tmp_path):
    """
    A path that is not there is a wrong request; a model without a manifest cannot be verified.
    """
    base = write_folder(tmp_path / "base", sd1_weights(), dtype=np.float32)

    with pytest.raises(RequestError):
        verify.run(tmp_path / "nothing")
    with pytest.raises(VerificationError, match="has no manifest"):
        verify.run(base)


def test_the_suffix_may_be_left_out(output_file):
    """
    An output is verified under the name that `edit` was given.
    """
    assert verify.run(output_file.root.with_suffix("")).ok
