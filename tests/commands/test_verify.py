"""`loco verify`: each alteration of an output has its failures, and an intact output has none."""

import json
import shutil

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from loco_cli.checkpoint.header import read_header
from loco_cli.commands import verify
from loco_cli.errors import RequestError, VerificationError
from tests.checkpoints import sd1_weights, write_folder, write_single_file
from tests.edits import NAMES, edit

UNET = "unet/diffusion_pytorch_model.safetensors"
UNEDITED = "conv_in.weight"
TENSOR = "model.diffusion_model.output_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"


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


def write_file(home, name, *, seed=0, stamp=True):
    """Write an edited single file, and return its paths."""
    home.mkdir(exist_ok=True)
    weights = sd1_weights(seed)
    base = write_single_file(home / f"{name}-base.safetensors", weights, metadata={"format": "pt"})
    return edit(base, home / name, stamp=stamp).paths


@pytest.fixture
def output_file(tmp_path):
    """The paths of an edited single file."""
    return write_file(tmp_path, "out")


@pytest.fixture(params=[True, False], ids=["stamp", "no-stamp"])
def any_file(request, tmp_path):
    """The paths of an edited single file, with and without a stamp."""
    return write_file(tmp_path, "out", stamp=request.param)


def flip(path, position):
    """Flip a bit of a file."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def alter(path, change):
    """Change a manifest."""
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def failures_of(output):
    """Verify an output, and return its failures."""
    verification = verify.run(output)
    assert verification.ok is not bool(verification.failures)
    assert all("\n" not in failure for failure in verification.failures)
    return verification.failures


@pytest.fixture
def fails(golden):
    """Check that an output fails, with one failure for each name; their texts are golden."""

    def check(output, *names):
        failures = failures_of(output)
        assert len(failures) == len(names), failures
        assert [name for name, one in zip(names, failures, strict=True) if name not in one] == []
        if failures:
            golden("\n".join(failures))

    return check


def test_intact_output(output, any_file):
    """
    An unaltered output passes, as a folder, as a file, and without its suffix.
    """
    document = {"schema": "loco.verification/1", "ok": True, "failures": []}

    assert verify.run(output).to_json() == document
    assert verify.run(any_file.root).ok
    assert verify.run(any_file.root.with_suffix("")).ok


def test_flipped_bit(fails, output):
    """
    A flipped bit fails with the name of the tensor or file; in the undo file, it fails twice.
    """
    undo = "loco-undo.safetensors"
    copies = ("vae/diffusion_pytorch_model.safetensors", "model_index.json", "README.md")
    for file, position, names in (
        (UNET, read_header(output / UNET).span(NAMES[0])[0] + 3, [NAMES[0]]),
        (UNET, read_header(output / UNET).span(UNEDITED)[0], [UNET]),
        (undo, read_header(output / undo).span(f"{UNET}:{NAMES[1]}")[0], [NAMES[1], UNET]),
        *((copy, -1, [copy]) for copy in copies),
    ):
        content = (output / file).read_bytes()
        flip(output / file, position)
        fails(output, *names)
        (output / file).write_bytes(content)


def test_altered_header(fails, output):
    """
    A rewritten header fails even if all tensors are unchanged.
    """
    content = (output / UNET).read_bytes()
    (output / UNET).write_bytes(content.replace(b'"format":"pt"', b'"format":"qt"', 1))

    fails(output, "its header")


def test_missing_and_extra_files(golden, output):
    """
    Missing files and files that the manifest does not list fail.
    """
    (output / "model_index.json").unlink()
    (output / "unet" / "extra.safetensors").write_bytes(b"")
    (output / "loco-undo.safetensors").unlink()

    failures = failures_of(output)

    names = ("loco-undo.safetensors", "model_index.json", "unet/extra.safetensors", UNET)
    assert [name for name in names if not any(name in one for one in failures)] == []
    golden("\n".join(failures))


# a change to a manifest, and the files named in failures other than that of the stamp
ALTERATIONS = (
    (lambda manifest: manifest["edits"][0].update(subject="monet"), []),
    (lambda manifest: manifest["tensors"][0].update(relative_change=0.5), []),
    (
        lambda manifest: manifest["tensors"][0].update(sha256_after="0" * 64),
        ["out.loco.json"],
    ),
    (
        lambda manifest: manifest["tensors"][0].update(sha256_before="0" * 64),
        ["out.loco.json"],
    ),
    (lambda manifest: manifest["tensors"][0].update(shape=[12, 16]), ["out.loco.json"]),
    (lambda manifest: manifest["tensors"].pop(), ["out.undo.safetensors"]),
    (lambda manifest: manifest["recipe"].update(text="loco: 1\n"), ["out.loco.json"]),
    (
        lambda manifest: manifest["base"]["files"][0].update(sha256="0" * 64),
        ["out.undo.safetensors", "out.safetensors"],
    ),
)


def test_altered_manifest(fails, any_file):
    """
    The stamp reveals every change to the manifest. Without a stamp, all measurable facts are
    checked.
    """
    content = any_file.manifest.read_bytes()
    stamped = ["out.safetensors"] if json.loads(content)["output"]["stamped"] else []

    for change, names in ALTERATIONS:
        alter(any_file.manifest, change)
        fails(any_file.root, *stamped, *names)
        any_file.manifest.write_bytes(content)


def test_manifest_that_denies_its_stamp(fails, output_file):
    """
    A manifest that claims to have no stamp is still compared with the stamp of the file.
    """
    alter(output_file.manifest, lambda manifest: manifest["output"].update(stamped=False))
    assert failures_of(output_file.root) == ()

    alter(output_file.manifest, lambda manifest: manifest["edits"][0].update(subject="monet"))

    fails(output_file.root, "out.safetensors")


def test_stamp_does_not_cover_time_and_command(output):
    """
    Creation time, command line and durations may be removed from a manifest.
    """
    changes = {
        "created": "",
        "command": [],
        "seconds": {"localize": 0, "solve": 0, "write": 0},
    }

    alter(output / "loco-manifest.json", lambda manifest: manifest.update(changes))

    assert verify.run(output).ok


def test_checkpoint_listed_as_lora(fails, any_file):
    """
    A checkpoint cannot escape the check of its base by being listed as a LoRA.
    """
    alter(any_file.manifest, lambda manifest: manifest["output"].update(kind="lora"))

    fails(any_file.root, "LoRA")


def test_undo_file_of_another_base(fails, any_file, tmp_path):
    """
    An undo file of another base fails for its base, its content, and the result of undo.
    """
    other = write_file(tmp_path / "other", "out", seed=1)

    any_file.undo.write_bytes(other.undo.read_bytes())

    fails(any_file.root, "out.undo.safetensors", "out.safetensors", "out.undo.safetensors")


def test_manifest_of_another_output(output_file, tmp_path):
    """
    The manifest of one edit does not fit the weights and the undo file of another.
    """
    other = write_file(tmp_path / "other", "other", seed=1)
    output_file.manifest.write_bytes(other.manifest.read_bytes())

    failures = failures_of(output_file.root)

    assert any("altered" in failure for failure in failures)
    assert any("base" in failure for failure in failures)


def test_file_saved_by_another_tool(fails, output_file):
    """
    A new header fails, as do a lost stamp, converted tensors and a missing tensor.
    """
    content = output_file.root.read_bytes()

    def as_float32(tensors):
        return {name: value.astype(np.float32) for name, value in tensors.items()}

    def without_one(tensors):
        return {name: value for name, value in tensors.items() if name != TENSOR}

    for keeps_metadata, change, names in (
        (True, dict, ["header"]),
        (False, dict, ["stamp", "header"]),
        (True, as_float32, ["fit", TENSOR]),
        (True, without_one, ["fit", TENSOR]),
    ):
        with safe_open(output_file.root, "np") as file:
            metadata = file.metadata() if keeps_metadata else None
        save_file(change(load_file(output_file.root)), output_file.root, metadata)
        fails(output_file.root, *names)
        output_file.root.write_bytes(content)


def test_edit_of_an_edit_without_stamp(fails, tmp_path):
    """
    An edit without a stamp keeps the stamp of its parent, which is valid only for that parent.
    """
    first = write_file(tmp_path, "first")

    second = edit(first.root, tmp_path / "second", stamp=False, size=0.25).paths

    assert failures_of(second.root) == ()
    alter(second.manifest, lambda manifest: manifest["base"].update(parent=None))
    fails(second.root, "second.safetensors", "base")


def test_renamed_output(output_file):
    """
    A single file passes under a new name if the files beside it are renamed alike.
    """
    moved = output_file.root.parent / "moved"
    moved.mkdir()
    for path in (output_file.root, *output_file.beside):
        path.rename(moved / path.name.replace("out", "new", 1))

    assert verify.run(moved / "new.safetensors").ok


def test_damaged_manifest(output):
    """
    A manifest that cannot be read is a failure of the output.
    """
    for content, name in (
        (b"\xff", "UTF-8"),
        (b"{", "JSON"),
        (b"[" * 100_000, "JSON"),
        (b"{}", "loco-manifest.json"),
        (b'{"schema": 1, "schema": 2}', "key"),
    ):
        (output / "loco-manifest.json").write_bytes(content)
        (failure,) = failures_of(output)  # not golden: it quotes Python, whose versions differ
        assert name in failure


@pytest.mark.parametrize("side", ["new", "old"])
def test_output_of_an_interrupted_edit(output_file, side):
    """
    A killed edit may leave the manifest in its staging folder, and verification reads it there.
    """
    hidden = output_file.root.parent / f".{output_file.root.name}.0123abcd.partial" / side
    hidden.mkdir(parents=True)
    output_file.manifest.rename(hidden / output_file.manifest.name)
    assert verify.run(output_file.root).ok

    # with weights beside it, the manifest belongs to these
    (hidden / output_file.root.name).write_bytes(b"")
    with pytest.raises(VerificationError):
        verify.run(output_file.root)


def test_output_in_a_staging_folder(output):
    """
    The hint names the staging folder of an output that a killed edit has moved.
    """
    hidden = output.parent / f".{output.name}.0123abcd.partial" / "old"
    hidden.mkdir(parents=True)
    output.rename(hidden / output.name)

    with pytest.raises(RequestError) as caught:
        verify.run(output)

    assert str(hidden / output.name) in caught.value.hint


def test_hostile_path_in_a_manifest(fails, output):
    """
    A path in a manifest cannot leave the folder of the output.
    """
    path = {"path": "../../etc/passwd"}

    alter(output / "loco-manifest.json", lambda tree: tree["output"]["files"][0].update(path))

    fails(output, "output.files.0.path")


def test_path_without_an_output(golden, tmp_path):
    """
    A missing path is a wrong request, and a model without a manifest cannot be verified.
    """
    base = write_folder(tmp_path / "base", sd1_weights(), dtype=np.float32)

    with golden.raises(RequestError, "nothing"):
        verify.run(tmp_path / "nothing")
    with golden.raises(VerificationError, "base"):
        verify.run(base)
