"""
A file with some of its byte ranges replaced, in one streaming pass that hashes on the way.

An edit keeps shapes and dtypes, so an edited checkpoint is its base with a few ranges replaced;
the header, where it is stamped, is one more range, and the only one whose length may change.
Undoing is that pass from the output back, and verifying is the same with nothing written.
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

# each chunk waits for the interpreter a few times, 5 ms each while other threads compute in it
CHUNK_BYTES = 16 << 20
_N_BUFFERS = 3  # enough for reading to run ahead of hashing
_WRITE_BYTES = 256 << 10  # the page cache takes longer writes more slowly


@dataclass(frozen=True)
class FileRange:
    """Bytes that stay on disk until they are needed: `FileRange(Path("a.safetensors"), 8, 256)`."""

    source: Path
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin


Content = bytes | FileRange


@dataclass(frozen=True)
class Patch:
    """What replaces the bytes from `begin` up to `end` of a file: `Patch(8, 12, b"abcd")`."""

    begin: int
    end: int
    content: Content


@dataclass(frozen=True)
class Digest:
    """Length and SHA-256 of some bytes: `Digest(3, "ba7816bf...")`."""

    n_bytes: int
    sha256: str


def write_patched(source: Path, sink: BinaryIO, patches: Sequence[Patch]) -> Digest:
    """
    Write `source` with its patches to `sink` and return the digest of what was written.

    Raises:
        CheckpointError: the source cannot be read, or ends before it should.
    """
    with _Hash(_is_long(source)) as made:
        _run(source, sink, patches, (None, made))
        return made.digest()


def hash_patched(source: Path, patches: Sequence[Patch]) -> tuple[Digest, Digest]:
    """Return the digests of `source` and of what its patches make of it, from one reading."""
    if not patches:
        digest = hash_file(source)
        return digest, digest
    with _Hash(_is_long(source)) as read, _Hash(_is_long(source)) as made:
        _run(source, None, patches, (read, made))
        return read.digest(), made.digest()


def hash_file(path: Path, stop: Event | None = None) -> Digest:
    """Return the digest of a file; raises CancelledError when `stop` is set meanwhile."""
    with _Hash(_is_long(path)) as read:
        _run(path, None, (), (read, None), stop)
        return read.digest()


def hash_content(content: Content) -> str:
    """Return the SHA-256 of bytes, wherever they are."""
    sha256 = hashlib.sha256()
    for chunk in iter_content(content):
        sha256.update(chunk)
    return sha256.hexdigest()


def iter_content(content: Content) -> Iterator[bytes]:
    """
    Yield bytes chunk by chunk, from memory or from disk.

    Raises:
        CheckpointError: the file ends inside the range.
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
    """Return the error for a file that the system cannot read."""
    return CheckpointError(f"cannot read `{printable(path)}`: {error.strerror}")


def cut_short(path: Path) -> CheckpointError:
    """Return the error for a file that ends before it should."""
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
                    f"patches of `{printable(source)}` overlap or lie beyond its end"
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
    """SHA-256 in a thread of its own: hashlib lets go of the interpreter, so reading goes on."""

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
    """The source on its way to the sink, in a few buffers, each reused when its hashes are done."""

    def __init__(
        self,
        file: BinaryIO,
        sink: BinaryIO | None,
        hashes: tuple[_Hash | None, _Hash | None],  # of what is read, of what comes of it
        buffer_bytes: int,
        stop: Event | None,
    ) -> None:
        self._file, self._sink, self._stop = file, sink, stop
        self._read, self._made = hashes
        self._ring = [(bytearray(buffer_bytes), list["Future[None]"]()) for _ in range(_N_BUFFERS)]
        self._turn = 0

    def keep(self, n_bytes: int) -> None:
        for chunk, loans in self._chunks(n_bytes):
            for sha256 in (self._read, self._made):
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
            loans = self._made.update(chunk) if self._made else []
            self._write(chunk)
            for loan in loans:
                loan.result()  # or chunks would pile up in memory

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
            n_read: int = self._file.readinto(buffer)  # type: ignore[attr-defined] # typeshed's lack
        except OSError as error:
            raise unreadable(path, error) from error
        if not n_read:
            raise cut_short(path)
        return n_read

    def _write(self, chunk: bytes | memoryview) -> None:
        if self._sink:
            for begin in range(0, len(chunk), _WRITE_BYTES):
                self._sink.write(chunk[begin : begin + _WRITE_BYTES])
