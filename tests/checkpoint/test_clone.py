"""Copies by the operating system: shared blocks and byte ranges."""

import os
from concurrent.futures import CancelledError
from threading import Event

import pytest

from loco_cli.checkpoint.clone import BLOCK_BYTES, copy_ranges, share_blocks
from loco_cli.errors import CheckpointError


@pytest.mark.parametrize("begin", [0, 104, BLOCK_BYTES, BLOCK_BYTES + 8])
@pytest.mark.parametrize("n_blocks", [-1, 0, 1, 2])
def test_shares_everything_or_writes_nothing(begin, n_blocks, tmp_path):
    """
    The copy is head plus rest if the file system shares blocks, and empty otherwise.
    """
    source, head = tmp_path / "source", os.urandom(max(0, begin + n_blocks * BLOCK_BYTES))
    source.write_bytes(os.urandom(3 * BLOCK_BYTES + 5))

    with (tmp_path / "copy").open("xb") as sink:
        is_shared = share_blocks(source, sink, head, begin)

    expected = head + source.read_bytes()[begin:] if is_shared else b""
    assert (tmp_path / "copy").read_bytes() == expected


def test_shares_whole_blocks_only(tmp_path):
    """
    A shift by part of a block, a file without a whole block, or a missing file is not shared.
    """
    (tmp_path / "source").write_bytes(bytes(BLOCK_BYTES))

    with (tmp_path / "copy").open("xb") as sink:
        assert not share_blocks(tmp_path / "source", sink, bytes(8))
        assert not share_blocks(tmp_path / "source", sink, bytes(8), 8)
        assert not share_blocks(tmp_path / "nothing", sink)


@pytest.mark.parametrize("shift", [0, 3, -2])
def test_copies_ranges_only(shift, tmp_path):
    """
    Each range is moved by the shift, and bytes between the ranges stay unchanged.
    """
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"0123456789")
    target.write_bytes(b".............")

    with target.open("r+b") as sink:
        copy_ranges(source, sink, [(2, 4), (7, 7), (8, 10)], shift, Event())

    expected = bytearray(b".............")
    expected[2 + shift : 4 + shift], expected[8 + shift : 10 + shift] = b"23", b"89"
    assert target.read_bytes() == expected


def test_copies_without_the_kernel(tmp_path):
    """
    If the kernel refuses the copy, Python copies all bytes.
    """
    content = os.urandom(700_001)
    source = tmp_path / "source"
    source.write_bytes(content)

    with (tmp_path / "appended").open("ab+") as sink:  # the kernel refuses to copy into it
        copy_ranges(source, sink, [(1, 700_001)], -1, Event())

    assert (tmp_path / "appended").read_bytes() == content[1:]


def test_reports_why_a_range_cannot_be_copied(tmp_path, golden):
    """
    A missing or short source is a CheckpointError, and `stop` cancels the copy.
    """
    (tmp_path / "short").write_bytes(b"abc")
    stop = Event()
    with (tmp_path / "copy").open("xb") as sink:
        with golden.raises(CheckpointError, "nothing"):
            copy_ranges(tmp_path / "nothing", sink, [(0, 1)], 0, stop)
        with golden.raises(CheckpointError, "short"):
            copy_ranges(tmp_path / "short", sink, [(0, 4)], 0, stop)
        stop.set()
        with pytest.raises(CancelledError):
            copy_ranges(tmp_path / "short", sink, [(0, 3)], 0, stop)
