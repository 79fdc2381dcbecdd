"""
Bytes that the system copies by itself, or that two files share where the file system can.

btrfs, XFS and bcachefs share blocks: such a copy takes neither time nor room. Elsewhere the kernel
copies from one cached page to another.
"""

import os
import struct
import sys
from collections.abc import Iterable
from concurrent.futures import CancelledError
from pathlib import Path
from threading import Event
from typing import BinaryIO

from loco_cli.checkpoint.patcher import cut_short, unreadable

BLOCK_BYTES = 4096  # blocks are shared whole: what moves must move by a multiple of this
_STEP_BYTES = 64 << 20  # between two looks at `stop`
_BUFFER_BYTES = 256 << 10
_FICLONERANGE = 0x4020940D  # linux/fs.h

Range = tuple[int, int]


def share_blocks(source: Path, sink: BinaryIO, head: bytes = b"", begin: int = 0) -> bool:
    """
    Make of an empty `sink` the bytes `head` and all that is in `source` from `begin` on.

    Return whether the file system could do so; if not, nothing was written. It never can where
    `head` is not longer or shorter than `begin` by whole blocks.
    """
    if sys.platform != "linux":
        return False
    import fcntl

    shift = len(head) - begin
    first = -(-begin // BLOCK_BYTES) * BLOCK_BYTES  # of the blocks that can be shared
    try:
        with source.open("rb") as file:
            if shift % BLOCK_BYTES or first >= file.seek(0, os.SEEK_END):
                return False
            request = struct.pack("=qQQQ", file.fileno(), first, 0, first + shift)  # 0: to the end
            fcntl.ioctl(sink.fileno(), _FICLONERANGE, request)
            file.seek(begin)
            before = file.read(first - begin)
    except OSError:
        return False
    sink.write(head + before)
    return True


def copy_ranges(
    source: Path, sink: BinaryIO, ranges: Iterable[Range], shift: int, stop: Event
) -> None:
    """
    Copy `ranges` of `source` into `sink`, each moved by `shift` bytes; what is between them stays.

    Raises:
        CheckpointError: the source cannot be read, or ends before it should.
        OSError: the sink cannot be written.
        CancelledError: `stop` was set meanwhile.
    """
    try:
        file = source.open("rb", buffering=0)
    except OSError as error:
        raise unreadable(source, error) from error
    with file:
        for begin, end in ranges:
            while begin < end:
                if stop.is_set():
                    raise CancelledError
                n_bytes = min(end - begin, _STEP_BYTES)
                n_copied = _copy_in_kernel(file, sink, begin, shift, n_bytes)
                begin += n_copied or _copy_here(file, sink, begin, shift, n_bytes)


def _copy_in_kernel(file: BinaryIO, sink: BinaryIO, begin: int, shift: int, n_bytes: int) -> int:
    """Return how many bytes were copied; none where the system cannot, or something is wrong."""
    if sys.platform != "linux":
        return 0
    try:
        return os.copy_file_range(file.fileno(), sink.fileno(), n_bytes, begin, begin + shift)
    except OSError:  # `_copy_here` finds out which of the two files it is, if it is one
        return 0


def _copy_here(file: BinaryIO, sink: BinaryIO, begin: int, shift: int, n_bytes: int) -> int:
    file.seek(begin)
    try:
        chunk = file.read(min(n_bytes, _BUFFER_BYTES))
    except OSError as error:
        raise unreadable(Path(file.name), error) from error
    if not chunk:
        raise cut_short(Path(file.name))
    sink.seek(begin + shift)
    sink.write(chunk)
    return len(chunk)
