"""Files that are no model, or a damaged one, given to every command that reads a model."""

import json
import shutil
import struct

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from loco_cli.cli.app import app
from tests.checkpoints import K_ORIGINAL, K, sd1_weights, tree_bytes, write_folder
from tests.checkpoints import write_single_file as write_file

UNET = "unet/diffusion_pytorch_model.safetensors"


def header_of(content):
    n_bytes = 8 + struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8:n_bytes]), content[n_bytes:]


def with_header(path, change):
    """Change what a file says of itself, and leave its data as it is."""
    header, data = header_of(path.read_bytes())
    change(header)
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)


def moved(by):
    """Move the place of one tensor, so that it overlaps its neighbour or leaves the file."""

    def change(header):
        entry = header[K_ORIGINAL]
        entry["data_offsets"] = [offset + by for offset in entry["data_offsets"]]

    return change


def enlarged(header):
    header[K_ORIGINAL]["shape"] = [8, 13]


def quantised(header):
    header[K_ORIGINAL] |= {"dtype": "F8_E4M3", "shape": [16, 12]}


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def as_text(path):
    path.write_text("these are only notes\n")


def as_lora(path):
    names = ("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", "alpha")
    save_file({name: np.ones((1, 8), np.float16) for name in names}, path)


def as_vae(path):
    tensors = load_file(path)
    save_file({n: t for n, t in tensors.items() if n.startswith("first_stage_model.")}, path)


def as_pickle(path):
    path.write_bytes(b"\x80\x02cos\nsystem\nq\x00X\x04\x00\x00\x00exitq\x01\x85q\x02Rq\x03.")


# what becomes of a model, and what is said of it
FILES = {
    "cut short": (cut, "is cut short"),
    "a shape that lies": (
        lambda path: with_header(path, enlarged),
        "is F16 [8, 13], which needs 208 bytes, its offsets span 192",
    ),
    "tensors that overlap": (lambda path: with_header(path, moved(-96)), "overlap"),
    "a tensor beyond the end": (lambda path: with_header(path, moved(10**9)), "no tensor owns"),
    "text": (as_text, "is not a safetensors file"),
    "a LoRA": (as_lora, "is a LoRA, not a model"),
    "a VAE": (as_vae, "is a VAE, not a model"),
    "a pickle under another name": (as_pickle, "is not a safetensors file"),
    "fp8": (
        lambda path: with_header(path, quantised),
        f"is quantised: tensor `{K_ORIGINAL}` is F8_E4M3, loco edits F32, F16, BF16",
    ),
}
INDEXES = {
    "outside": ("../../secret.safetensors", "leaves its folder"),
    "absolute": ("/etc/passwd", "leaves its folder"),
    "not there": ("gone.safetensors", "which does not exist"),
}
COMMANDS = {
    "edit": ["edit", "van gogh style", "--layers", "8", "--quiet", "--output", "out", "--model"],
    "edit --dry-run": ["edit", "van gogh style", "--layers", "8", "--dry-run", "--model"],
    "localize": ["localize", "van gogh style", "--model"],
    "diff": ["diff", "good.safetensors"],
}


@pytest.fixture(scope="module")
def weights():
    return sd1_weights()


@pytest.fixture
def here(tmp_path, monkeypatch, weights):
    monkeypatch.chdir(tmp_path)
    write_file(tmp_path / "good.safetensors", weights)
    (tmp_path / "bad.safetensors").write_bytes((tmp_path / "good.safetensors").read_bytes())
    return tmp_path


def refused(here, command, model, said):
    before = tree_bytes(here)

    result = CliRunner().invoke(app, [*COMMANDS[command], model])

    assert result.exit_code == 1
    message, *hint = result.stderr.rstrip("\n").split("\n\n")
    assert message.startswith("error: ")
    assert said in message
    assert "\n" not in message
    assert all(line.startswith("hint: ") and "\n" not in line for line in hint)
    assert result.stdout == ""
    assert tree_bytes(here) == before


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("case", FILES)
def test_a_bad_file(here, case, command):
    """
    Each is refused with one sentence by every command, and nothing is written.
    """
    damage, said = FILES[case]
    damage(here / "bad.safetensors")

    refused(here, command, "bad.safetensors", said)


@pytest.mark.parametrize("case", INDEXES)
def test_a_bad_index(here, weights, case):
    """
    A shard index that leads out of its folder, or nowhere, is refused; what it names stays unread.
    """
    named, said = INDEXES[case]
    root = write_folder(here / "model", weights)
    (here / "secret.safetensors").write_bytes((root / UNET).read_bytes())
    index = root / f"{UNET}.index.json"
    index.write_text(json.dumps({"weight_map": {K: named}}))

    for command in ("edit", "diff"):
        refused(here, command, "./model", said)


@pytest.mark.parametrize("command", ["edit", "edit --dry-run", "localize"])
def test_a_pickle_is_no_base(here, command):
    """
    A `.ckpt` is refused unread where something is to be made of it, whatever is in it.
    """
    as_pickle(here / "model.ckpt")

    refused(here, command, "model.ckpt", "`model.ckpt` is a pickle, which can run code when it is")


def test_an_output_that_was_changed_is_no_base(here, edited):
    """
    What its own manifest belies is not edited further, and the way out is to see what changed.
    """
    unet = shutil.copytree(edited, here / "mine") / UNET
    content = bytearray(unet.read_bytes())
    content[-1] ^= 1
    unet.write_bytes(content)

    refused(here, "edit", "./mine", f"has changed since its manifest was written: `{UNET}` differs")


def test_a_model_over_its_own_base(here):
    """
    An output that is the base itself is refused, with `--force` too.
    """
    before = tree_bytes(here)
    asked = ["edit", "van gogh style", "--layers", "8", "--model", "good.safetensors", "--force"]

    result = CliRunner().invoke(app, [*asked, "--output", "good.safetensors"])

    assert result.exit_code == 2
    assert "`good.safetensors`" in result.stderr
    assert tree_bytes(here) == before
