"""
File copies by the operating system, through shared blocks or inside the kernel.

btrfs, XFS and bcachefs can share blocks between files; such a copy takes neither time nor space. On
other file systems of Linux the kernel copies between cached pages.
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

BLOCK_BYTES = 4096  # file systems share whole blocks, so data must move by a multiple of this
_STEP_BYTES = 64 << 20  # bytes copied between two checks of `stop`
_BUFFER_BYTES = 256 << 10
_FICLONERANGE = 0x4020940D  # linux/fs.h

Range = tuple[int, int]


def share_blocks(source: Path, sink: BinaryIO, head: bytes = b"", begin: int = 0) -> bool:
    """
    Write `head` to an empty `sink`, followed by shared blocks of `source` from `begin` on.

    The lengths of `head` and `begin` must differ by a whole number of blocks.

    Args:
        source: The file whose blocks are shared.
        sink: An empty file, open for writing.
        head: The bytes that replace the first `begin` bytes of `source`.
        begin: The offset in `source` of the first byte to keep.

    Returns:
        True if the file system shared the blocks; False if nothing was written.
    """
    if sys.platform != "linux":
        return False
    import fcntl

    shift = len(head) - begin
    first = -(-begin // BLOCK_BYTES) * BLOCK_BYTES  # offset of the first whole block to share
    try:
        with source.open("rb") as file:
            if shift % BLOCK_BYTES or first >= file.seek(0, os.SEEK_END):
                return False
            request = struct.pack(
                "=qQQQ", file.fileno(), first, 0, first + shift
            )  # 0 means to the end
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
    Copy `ranges` of `source` into `sink`, each moved by `shift` bytes.

    The bytes of `sink` between the ranges stay unchanged.

    Raises:
        CheckpointError: The source cannot be read, or is too short.
        OSError: The sink cannot be written.
        CancelledError: `stop` was set during the copy.
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
    """Return the number of copied bytes; 0 if the system cannot copy, or on any error."""
    if sys.platform != "linux":
        return 0
    try:
        return os.copy_file_range(file.fileno(), sink.fileno(), n_bytes, begin, begin + shift)
    except OSError:  # `_copy_here` repeats the copy and reports the file that failed
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
