"""Copies that the system makes: shared blocks, or ranges of bytes."""

import os
from concurrent.futures import CancelledError
from threading import Event

import pytest

from loco_cli.checkpoint.clone import BLOCK_BYTES, copy_ranges, share_blocks
from loco_cli.errors import CheckpointError


@pytest.mark.parametrize("begin", [0, 104, BLOCK_BYTES, BLOCK_BYTES + 8])
@pytest.mark.parametrize("n_blocks", [-1, 0, 1, 2])
def test_gives_all_of_the_copy_or_nothing(begin, n_blocks, tmp_path):
    """
    Where the file system shares blocks the copy is the head and the rest; elsewhere it is empty.
    """
    source, head = tmp_path / "source", os.urandom(max(0, begin + n_blocks * BLOCK_BYTES))
    source.write_bytes(os.urandom(3 * BLOCK_BYTES + 5))

    with (tmp_path / "copy").open("xb") as sink:
        is_shared = share_blocks(source, sink, head, begin)

    made = (tmp_path / "copy").read_bytes()
    assert made == (head + source.read_bytes()[begin:] if is_shared else b"")


def test_shares_whole_blocks_only(tmp_path):
    """
    What would move by part of a block, or is shorter than one, is left to a copy.
    """
    (tmp_path / "source").write_bytes(bytes(BLOCK_BYTES))

    with (tmp_path / "copy").open("xb") as sink:
        assert not share_blocks(tmp_path / "source", sink, bytes(8))
        assert not share_blocks(tmp_path / "source", sink, bytes(8), 8)
        assert not share_blocks(tmp_path / "nothing", sink)


@pytest.mark.parametrize("shift", [0, 3, -2])
def test_copies_ranges_and_leaves_what_is_between_them(shift, tmp_path):
    """
    Each range arrives, moved; bytes of the copy that no range covers stay as they are.
    """
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"0123456789")
    target.write_bytes(b".............")

    with target.open("r+b") as sink:
        copy_ranges(source, sink, [(2, 4), (7, 7), (8, 10)], shift, Event())

    expected = bytearray(b".............")
    expected[2 + shift : 4 + shift], expected[8 + shift : 10 + shift] = b"23", b"89"
    assert target.read_bytes() == expected


def test_copies_where_the_kernel_cannot(tmp_path):
    """
    From a file system of another kind the bytes come by hand, however many.
    """
    content = os.urandom(700_001)
    source = tmp_path / "source"
    source.write_bytes(content)

    with (tmp_path / "appended").open("ab+") as sink:  # which the kernel refuses to copy to
        copy_ranges(source, sink, [(1, 700_001)], -1, Event())

    assert (tmp_path / "appended").read_bytes() == content[1:]


def test_tells_why_a_range_cannot_be_copied(tmp_path):
    """
    A source that is gone or too short is an error with a sentence; a stop is obeyed.
    """
    (tmp_path / "short").write_bytes(b"abc")
    stop = Event()
    with (tmp_path / "copy").open("xb") as sink:
        with pytest.raises(CheckpointError, match="cannot read"):
            copy_ranges(tmp_path / "nothing", sink, [(0, 1)], 0, stop)
        with pytest.raises(CheckpointError, match="became shorter"):
            copy_ranges(tmp_path / "short", sink, [(0, 4)], 0, stop)
        stop.set()
        with pytest.raises(CancelledError):
            copy_ranges(tmp_path / "short", sink, [(0, 3)], 0, stop)
