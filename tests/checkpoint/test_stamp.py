"""The stamp in the header of an edited file."""

from pathlib import Path

import pytest

from loco_cli import __version__
from loco_cli.checkpoint.clone import BLOCK_BYTES
from loco_cli.checkpoint.edits import FileEdit
from loco_cli.checkpoint.files import CheckpointFile
from loco_cli.checkpoint.header import Header, TensorInfo, parse_header

TENSORS = {"w": TensorInfo("w", "U8", (5,), 0, 5)}
STAMP = {"loco.version": __version__, "loco.manifest": "ab" * 32}


def edit_of(metadata, data_start=64, title="Remove snoopy"):
    """Return an edit without slots of a file with this metadata."""
    header = Header(TENSORS, metadata, data_start, data_start + 5)
    return FileEdit(CheckpointFile("w", Path("w"), header), (), title)


def stamped(edit, folder):
    """Return the header of an edited file, raw and parsed."""
    target = folder / "w"
    target.write_bytes(edit.head)
    edit.stamp(target, "ab" * 32)
    raw = target.read_bytes()
    return raw, parse_header("w", raw[8:], len(raw) + 5)


ADDED = f"Edited with loco {__version__}: Remove snoopy."
METADATA = {  # before and after
    "none": ({}, {}),
    "format": ({"format": "pt"}, {"format": "pt"}),
    "title": ({"modelspec.title": "SD"}, {"modelspec.title": "SD (Remove snoopy)"}),
    "text": ({"modelspec.description": "A."}, {"modelspec.description": f"A.\n\n{ADDED}"}),
    "date": ({"modelspec.license": "x", "modelspec.date": "2023"}, {"modelspec.license": "x"}),
    "hash": ({"modelspec.hash_sha256": "0x0", "modelspec.hash_md5": "0x0"}, {}),
    "stamp": ({"loco.manifest": "cd" * 32, "loco.version": "0"}, {}),
}


@pytest.mark.parametrize("case", METADATA)
def test_keeps_valid_metadata(case, tmp_path):
    """
    Titles name the edit, metadata of the base alone is dropped, and other metadata is kept.
    """
    before, after = METADATA[case]
    edit = edit_of(before)

    raw, header = stamped(edit, tmp_path)

    assert header.metadata == {**after, **STAMP}
    assert len(raw) == len(edit.head)


@pytest.mark.parametrize("data_start", [8, 64, 1000, 4096, 70_000])
def test_moves_the_data_by_whole_blocks(data_start, tmp_path):
    """
    Tensors keep order and offsets, and the data moves by whole blocks.
    """
    raw, header = stamped(edit_of({"format": "pt"}, data_start), tmp_path)

    assert header.tensors == TENSORS
    assert (header.data_start - data_start) % BLOCK_BYTES == 0
    assert raw[8:10] == b'{"'
