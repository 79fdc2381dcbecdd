"""What an edited file says of itself."""

import pytest

from loco_cli import __version__
from loco_cli.checkpoint.clone import BLOCK_BYTES
from loco_cli.checkpoint.edits import stamped_header
from loco_cli.checkpoint.header import Header, TensorInfo, parse_header

TENSORS = {"w": TensorInfo("w", "U8", (5,), 0, 5)}
STAMP = {"loco.version": __version__, "loco.manifest": "ab" * 32}


def stamped(metadata, data_start=64, what="Remove snoopy"):
    header = Header(TENSORS, metadata, data_start, data_start + 5)
    raw = stamped_header(header, what, "ab" * 32)
    return raw, parse_header("w", raw[8:], len(raw) + 5)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {}),
        ({"format": "pt"}, {"format": "pt"}),
        ({"modelspec.title": "SD"}, {"modelspec.title": "SD (Remove snoopy)"}),
        (
            {"modelspec.description": "A model."},
            {
                "modelspec.description": "A model.\n\n"
                f"Edited with loco {__version__}: Remove snoopy."
            },
        ),
        ({"modelspec.license": "x", "modelspec.date": "2023"}, {"modelspec.license": "x"}),
        ({"modelspec.hash_sha256": "0x0", "modelspec.hash_md5": "0x0"}, {}),
        ({"loco.manifest": "cd" * 32, "loco.version": "0"}, {}),
    ],
)
def test_keeps_what_is_still_true(before, after):
    """
    Metadata is kept, titles say what was done, and what holds of the base alone is gone.
    """
    assert stamped(before)[1].metadata == {**after, **STAMP}


@pytest.mark.parametrize("data_start", [8, 64, 1000, 4096, 70_000])
def test_moves_the_data_by_whole_blocks(data_start):
    """
    Tensors keep their order and places, and the data its alignment to blocks.
    """
    raw, header = stamped({"format": "pt"}, data_start)

    assert header.tensors == TENSORS
    assert (header.data_start - data_start) % BLOCK_BYTES == 0
    assert raw[8:10] == b'{"'


def test_has_one_length_for_every_digest():
    """
    The place of the stamp is known before the digest is.
    """
    header = Header(TENSORS, {"modelspec.title": "SD"}, 64, 69)

    assert len(stamped_header(header, "x")) == len(stamped_header(header, "x", "f" * 64))
