"""Hostile files and names: no code runs, memory is bounded, and output is escaped."""

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from loco_cli.errors import RequestError
from loco_cli.models.user_models import known_models, user_models_file
from tests.checkpoints import sd1_weights, tree_bytes, write_folder, write_single_file
from tests.edits import edit

ROOT = Path(__file__).parents[1]
ESCAPE = "\x1b[2J\x1b]0;owned\x07\u202e"
COMMANDS = (
    ("edit", "van gogh style", "--layers", "8", "-o", "out", "--model", "{}"),
    ("localize", "van gogh style", "--model", "{}"),
    ("generate", "a cat", "--model", "{}"),
    ("evaluate", "van gogh style", "--base", "{}", "--edited", "{}"),
    ("diff", "{}", "{}"),
    ("models", "show", "{}"),
    ("verify", "{}"),
    ("undo", "{}"),
)


class Payload:
    """An object whose unpickling creates a folder."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def zipped(content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", content)
    return file.getvalue()


def fill(command, *names):
    """Return a command with its placeholders replaced by names, in turn."""
    words = iter(names * 2)
    return [next(words) if word == "{}" else word for word in command]


def check_refused(result):
    """Check that a command failed with a message of its own and printed no control character."""
    assert result.exit_code in (1, 2), result.output
    assert result.stderr.startswith("error: "), result.stderr
    assert "bug in loco" not in result.stderr
    assert "Traceback" not in result.stderr
    assert not set(result.output) & set(ESCAPE[:1] + "\x07\u202e")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_nothing_in_a_pickle_runs(command, here, loco):
    """
    No code of a pickle runs, whatever its name, zipped or not.
    """
    marker = here / "ran"
    content = pickle.dumps(Payload(marker))
    pickle.loads(content)
    marker.rmdir()  # the payload works
    names = ("model.ckpt", "model.safetensors", "model.pt", "zipped.safetensors")
    for name in names:
        (here / name).write_bytes(zipped(content) if "zip" in name else content)
    folder = write_folder(here / "folder", sd1_weights())
    unet = folder / "unet/diffusion_pytorch_model.safetensors"
    unet.unlink()
    unet.with_suffix(".bin").write_bytes(content)
    before = set(tree_bytes(here))

    for name in (*names, "./folder"):
        check_refused(loco(*fill(command, name)))

    assert not marker.exists()
    assert set(tree_bytes(here)) == before


def test_a_zip_bomb_stays_packed(here, loco):
    """
    A small file that unpacks to a large one is never unpacked, whatever its name.
    """
    bomb = zipped(bytes(1 << 26))
    for name in ("bomb.safetensors", "bomb.ckpt", "bomb.zip"):
        (here / name).write_bytes(bomb)
        for command in COMMANDS:
            check_refused(loco(*fill(command, name)))


def headed(tree, data=b""):
    raw = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    return struct.pack("<Q", len(raw)) + raw + data


SIZE = {"dtype": "F16", "data_offsets": [0, 2]}
HEADERS = {
    "billions of tensors": (headed(b"{" + b'"a":{},' * 1_100_000 + b"}"), "loco reads at most"),
    "billions of numbers": (
        headed({"a": {**SIZE, "shape": [2**31, 2**31]}}, bytes(2)),
        "needs 9223372036854775808 bytes, but its offsets span 2",
    ),
    "more header than file": (struct.pack("<Q", 99_999_999) + b"{}", "its header needs 100000007"),
    "more header than allowed": (struct.pack("<Q", 2**63) + b"{}", "the format allows"),
    "a name that leads out": (
        headed({"../../etc/passwd": {**SIZE, "shape": [1]}}, bytes(2)),
        "is not a model that loco supports",
    ),
    "a name that a terminal obeys": (
        headed({ESCAPE: {**SIZE, "shape": [3]}}, bytes(2)),
        "tensor `\\x1b[2J\\x1b]0;owned\\x07\\u202e`",
    ),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_with_false_sizes(case, here, loco):
    """
    No memory is allocated for the sizes that a header claims.
    """
    content, words = HEADERS[case]
    (here / "x.safetensors").write_bytes(content)

    for command in (COMMANDS[0], COMMANDS[4], COMMANDS[5]):
        result = loco(*fill(command, "x.safetensors"))
        check_refused(result)
        assert words in result.stderr


MEASURE = """
import struct, sys
from pathlib import Path
from loco_cli.checkpoint.header import read_header
from loco_cli.errors import CheckpointError

path = Path(sys.argv[1])
for raw in (
    ('{"a":"\\U0001f600' + "\\xe9" * 49_000_000 + '"}').encode(),
    b"{" + b",".join(b'"%d":1' % i for i in range(990_000)) + b"}",
):
    path.write_bytes(struct.pack("<Q", len(raw)) + raw)
    del raw
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak size
    try:
        read_header(path)
    except CheckpointError:
        pass
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(int(status["VmHWM"].split()[0]) << 10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_header_of_a_hundred_megabytes(tmp_path):
    """
    The largest header, and the one with the most values, take less than 700 MB of memory.
    """
    line = [sys.executable, "-c", MEASURE, str(tmp_path / "x.safetensors")]

    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)

    sizes = [int(size) for size in done.stdout.split()]
    assert len(sizes) == 2
    assert max(sizes) < 700e6


def test_names_and_metadata_are_never_printed_raw(here, loco):
    """
    Names of tensors, metadata, files and folders are escaped in all output.
    """
    base = write_single_file(here / f"a{ESCAPE}.safetensors", sd1_weights(), metadata={"a": ESCAPE})
    tensors = load_file(base)
    tensors[f"first_stage_model.{ESCAPE}"] = np.ones((2,), np.float16)
    save_file(tensors, here / "b.safetensors", {ESCAPE: ESCAPE})
    written = edit(here / "b.safetensors", here / f"out{ESCAPE}").paths
    written.root.write_bytes(written.root.read_bytes()[:-1] + b"\1")
    commands = (
        ("diff", base.name, "b.safetensors"),
        ("models", "show", base.name),
        ("verify", written.root.name),
        ("undo", written.root.name),
        ("edit", ESCAPE, "--model", base.name),
        ("edit", "x style", "--set", f"{ESCAPE}=1"),
        ("recipes", "show", ESCAPE),
        ("generate", "a cat", "--model", ESCAPE),
    )

    for words in commands:
        for more in ((), ("--json",)):
            result = loco(*words, *more)
            assert "bug in loco" not in result.stderr, result.stderr
            assert not set(result.output) & {"\x1b", "\x07", "\u202e"}, words


def test_a_hostile_models_file_is_refused():
    """
    A `models.yaml` with nested aliases, deep brackets or Python tags is refused.
    """
    path = user_models_file()
    path.parent.mkdir(parents=True)
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]"
        for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    for text in ("\n".join(lines), "[" * 5000, "tiny: !!python/object/apply:os.system [id]"):
        path.write_text(text)
        with pytest.raises(RequestError):
            known_models()


def test_an_index_may_follow_links_of_the_hub_cache(here, loco):
    """
    The files of an index may be links out of the folder, as in the hub's cache.
    """
    folder = write_folder(here / "model", sd1_weights(), n_shards=2)
    blobs = here / "blobs"
    blobs.mkdir()
    for number, path in enumerate(sorted(folder.rglob("*.safetensors"))):
        blob = path.rename(blobs / str(number))
        path.symlink_to(blob)

    result = loco("diff", "./model", "./model")

    assert result.exit_code == 0, result.output
