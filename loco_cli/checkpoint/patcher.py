"""
A file with some of its byte ranges replaced, in one streaming pass that hashes on the way.

An edit keeps shapes and dtypes, so an edited checkpoint is its base with a few ranges replaced;
the header, where it is stamped, is one more range, and the only one whose length may change.
Undoing is the same pass from the output back, and verifying is that pass with nothing written.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from loco_cli.checkpoint.header import shown
from loco_cli.errors import CheckpointError

CHUNK_BYTES = 4 << 20
_N_BUFFERS = 4  # enough for reading to run ahead of hashing


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


@dataclass(frozen=True)
class Copied:
    """Digests of what was read and of what came of it; `result` is None where it was not hashed."""

    source: Digest
    result: Digest | None


def copy_patched(
    source: Path, sink: BinaryIO | None, patches: Sequence[Patch], *, with_result: bool = True
) -> Copied:
    """
    Write `source` with its patches to `sink` (nowhere if None) and return the digests of both.

    The source is read once, chunk by chunk. Without patches one hash serves for both.

    Raises:
        CheckpointError: the source cannot be read, or ends before it should.
    """
    with ExitStack() as stack:
        file = stack.enter_context(_open(source))
        n_bytes = file.seek(0, 2)
        file.seek(0)
        is_threaded = n_bytes > CHUNK_BYTES
        read = stack.enter_context(_Hash(is_threaded))
        made = stack.enter_context(_Hash(is_threaded)) if patches and with_result else None
        one_pass = _Pass(file, sink, read, made, min(n_bytes, CHUNK_BYTES))
        position = 0
        for patch in _in_order(source, patches, n_bytes):
            one_pass.keep(patch.begin - position)
            one_pass.drop(patch.end - patch.begin)
            one_pass.add(patch.content)
            position = patch.end
        one_pass.keep(n_bytes - position)
        result = read if not patches else made
        return Copied(read.digest(), result.digest() if result else None)


def hash_file(path: Path) -> Digest:
    """Return the digest of a file."""
    return copy_patched(path, None, ()).source


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
                raise _cut_short(content.source)
            left -= len(chunk)
            yield chunk


def _in_order(source: Path, patches: Sequence[Patch], n_bytes: int) -> list[Patch]:
    ordered = sorted(patches, key=lambda patch: (patch.begin, patch.end))
    position = 0
    for patch in ordered:
        if not position <= patch.begin <= patch.end <= n_bytes:
            raise CheckpointError(f"patches of `{shown(source)}` overlap or lie beyond its end")
        position = patch.end
    return ordered


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise CheckpointError(f"cannot read `{shown(path)}`: {error.strerror}") from error


def _cut_short(path: Path) -> CheckpointError:
    return CheckpointError(f"`{shown(path)}` became shorter while it was read")


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
        read: _Hash,
        made: _Hash | None,
        buffer_bytes: int,
    ) -> None:
        self._file, self._sink, self._read, self._made = file, sink, read, made
        self._ring = [(bytearray(buffer_bytes), list["Future[None]"]()) for _ in range(_N_BUFFERS)]
        self._turn = 0

    def keep(self, n_bytes: int) -> None:
        for chunk, loans in self._chunks(n_bytes):
            loans += self._read.update(chunk)
            if self._made:
                loans += self._made.update(chunk)
            self._write(chunk)

    def drop(self, n_bytes: int) -> None:
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
            self._turn = (self._turn + 1) % _N_BUFFERS
            buffer, loans = self._ring[self._turn]
            while loans:
                loans.pop().result()
            n_read = self._file.readinto(memoryview(buffer)[:n_bytes])  # type: ignore[attr-defined]
            if not n_read:
                raise _cut_short(Path(self._file.name))
            n_bytes -= n_read
            yield memoryview(buffer)[:n_read], loans

    def _write(self, chunk: bytes | memoryview) -> None:
        if self._sink:
            self._sink.write(chunk)
