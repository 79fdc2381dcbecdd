"""
Replacement of byte ranges in a file, in one streaming pass that also hashes.

An edit keeps shapes and dtypes, so an edited checkpoint is its base with a few replaced ranges. A
stamped header is one more range, the only one whose length may change. Undo applies the same pass
to the output. Verification applies it without writing.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import BinaryIO

from loco_cli.errors import CheckpointError, printable

# long, because each chunk waits for the interpreter lock: up to 5 ms if other threads compute
CHUNK_BYTES = 16 << 20
_N_BUFFERS = 3  # lets reading run ahead of hashing
_WRITE_BYTES = 256 << 10  # larger writes to the page cache are slower


@dataclass(frozen=True)
class FileRange:
    """A range of bytes in a file: `FileRange(Path("a.safetensors"), 8, 256)`."""

    source: Path
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin


Content = bytes | FileRange


@dataclass(frozen=True)
class Patch:
    """New content for the bytes from `begin` up to `end` of a file: `Patch(8, 12, b"abcd")`."""

    begin: int
    end: int
    content: Content


@dataclass(frozen=True)
class Digest:
    """The length and SHA-256 of some content: `Digest(3, "ba7816bf...")`."""

    n_bytes: int
    sha256: str


def write_patched(source: Path, sink: BinaryIO, patches: Sequence[Patch]) -> Digest:
    """
    Write `source` with `patches` to `sink`.

    Args:
        source: The file to read.
        sink: A file that is open for writing.
        patches: Replacements of disjoint ranges, in any order.

    Returns:
        The digest of the written bytes.

    Raises:
        CheckpointError: The source cannot be read, or became shorter.
    """
    with _Hash(_is_long(source)) as written:
        _run(source, sink, patches, (None, written))
        return written.digest()


def hash_patched(source: Path, patches: Sequence[Patch]) -> tuple[Digest, Digest]:
    """Return the digests of `source` without and with its patches, in one pass."""
    if not patches:
        digest = hash_file(source)
        return digest, digest
    with _Hash(_is_long(source)) as read, _Hash(_is_long(source)) as patched:
        _run(source, None, patches, (read, patched))
        return read.digest(), patched.digest()


def hash_file(path: Path, stop: Event | None = None) -> Digest:
    """Return the digest of a file; raise CancelledError once `stop` is set."""
    with _Hash(_is_long(path)) as read:
        _run(path, None, (), (read, None), stop)
        return read.digest()


def hash_content(content: Content) -> str:
    """Return the SHA-256 of content in memory or on disk."""
    sha256 = hashlib.sha256()
    for chunk in iter_content(content):
        sha256.update(chunk)
    return sha256.hexdigest()


def iter_content(content: Content) -> Iterator[bytes]:
    """
    Yield content in chunks, from memory or from disk.

    Raises:
        CheckpointError: The file ends inside the range.
    """
    if isinstance(content, bytes):
        if content:
            yield content
        return
    left = len(content)
    with _open(content.source) as file:
        file.seek(content.begin)
        while left:
            chunk = file.read(min(left, CHUNK_BYTES))
            if not chunk:
                raise cut_short(content.source)
            left -= len(chunk)
            yield chunk


def unreadable(path: Path, error: OSError) -> CheckpointError:
    """Return the error for an unreadable file."""
    return CheckpointError(f"cannot read `{printable(path)}`: {error.strerror}")


def cut_short(path: Path) -> CheckpointError:
    """Return the error for a file that became shorter."""
    return CheckpointError(f"`{printable(path)}` became shorter while it was read")


def _run(
    source: Path,
    sink: BinaryIO | None,
    patches: Sequence[Patch],
    hashes: "tuple[_Hash | None, _Hash | None]",
    stop: Event | None = None,
) -> None:
    with _open(source) as file:
        n_bytes = file.seek(0, os.SEEK_END)
        file.seek(0)
        one_pass = _Pass(file, sink, hashes, min(n_bytes, CHUNK_BYTES), stop)
        position, ordered = 0, sorted(patches, key=lambda patch: (patch.begin, patch.end))
        for patch in ordered:
            if not position <= patch.begin <= patch.end <= n_bytes:
                raise CheckpointError(
                    f"patches of `{printable(source)}` overlap or extend beyond its end"
                )
            one_pass.keep(patch.begin - position)
            one_pass.drop(patch.end - patch.begin)
            one_pass.add(patch.content)
            position = patch.end
        one_pass.keep(n_bytes - position)


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise unreadable(path, error) from error


def _is_long(path: Path) -> bool:
    try:
        return path.stat().st_size > CHUNK_BYTES
    except OSError as error:
        raise unreadable(path, error) from error


class _Hash:
    """A SHA-256 in its own thread; hashlib releases the interpreter lock, so reading continues."""

    def __init__(self, is_threaded: bool) -> None:
        self._sha256 = hashlib.sha256()
        self._n_bytes = 0
        self._thread = ThreadPoolExecutor(1) if is_threaded else None

    def __enter__(self) -> "_Hash":
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread:
            self._thread.shutdown(cancel_futures=True)

    def update(self, chunk: bytes | memoryview) -> list["Future[None]"]:
        self._n_bytes += len(chunk)
        if self._thread:
            return [self._thread.submit(self._sha256.update, chunk)]
        self._sha256.update(chunk)
        return []

    def digest(self) -> Digest:
        if self._thread:
            self._thread.shutdown()
        return Digest(self._n_bytes, self._sha256.hexdigest())


class _Pass:
    """One pass from source to sink, through buffers that are reused once they are hashed."""

    def __init__(
        self,
        file: BinaryIO,
        sink: BinaryIO | None,
        hashes: tuple[_Hash | None, _Hash | None],  # source and patched file
        buffer_bytes: int,
        stop: Event | None,
    ) -> None:
        self._file, self._sink, self._stop = file, sink, stop
        self._read, self._patched = hashes
        self._ring = [(bytearray(buffer_bytes), list["Future[None]"]()) for _ in range(_N_BUFFERS)]
        self._turn = 0

    def keep(self, n_bytes: int) -> None:
        for chunk, loans in self._chunks(n_bytes):
            for sha256 in (self._read, self._patched):
                loans += sha256.update(chunk) if sha256 else []
            self._write(chunk)

    def drop(self, n_bytes: int) -> None:
        if not self._read:
            self._file.seek(n_bytes, os.SEEK_CUR)
            return
        for chunk, loans in self._chunks(n_bytes):
            loans += self._read.update(chunk)

    def add(self, content: Content) -> None:
        for chunk in iter_content(content):
            loans = self._patched.update(chunk) if self._patched else []
            self._write(chunk)
            for loan in loans:
                loan.result()  # chunks would pile up in memory otherwise

    def _chunks(self, n_bytes: int) -> Iterator[tuple[memoryview, list["Future[None]"]]]:
        while n_bytes:
            if self._stop and self._stop.is_set():
                raise CancelledError
            self._turn = (self._turn + 1) % _N_BUFFERS
            buffer, loans = self._ring[self._turn]
            while loans:
                loans.pop().result()
            n_read = self._read_into(memoryview(buffer)[:n_bytes])
            n_bytes -= n_read
            yield memoryview(buffer)[:n_read], loans

    def _read_into(self, buffer: memoryview) -> int:
        path = Path(self._file.name)
        try:
            n_read: int = self._file.readinto(buffer)  # type: ignore[attr-defined] # missing from typeshed
        except OSError as error:
            raise unreadable(path, error) from error
        if not n_read:
            raise cut_short(path)
        return n_read

    def _write(self, chunk: bytes | memoryview) -> None:
        if self._sink:
            for begin in range(0, len(chunk), _WRITE_BYTES):
                self._sink.write(chunk[begin : begin + _WRITE_BYTES])
