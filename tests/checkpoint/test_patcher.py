"""Replacement and hashing of byte ranges in one pass."""

import hashlib
import io
import os
from concurrent.futures import CancelledError
from threading import Event

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loco_cli.checkpoint import patcher
from loco_cli.checkpoint.patcher import (
    Digest,
    FileRange,
    Patch,
    hash_file,
    hash_patched,
    write_patched,
)
from loco_cli.errors import CheckpointError


def digest_of(content):
    return Digest(len(content), hashlib.sha256(content).hexdigest())


@settings(deadline=None)  # a busy machine is not a failure
@given(
    content=st.binary(min_size=20, max_size=200),
    cuts=st.lists(st.integers(0, 20), min_size=4, max_size=4, unique=True),
    first=st.binary(max_size=30),
    second=st.binary(max_size=30),
)
def test_replaces_ranges_only(content, cuts, first, second, tmp_path_factory):
    """
    The result is the source with each range replaced, and the digests are those of its bytes.
    """
    path = tmp_path_factory.getbasetemp() / "source"
    path.write_bytes(content)
    a, b, c, d = sorted(cuts)
    expected = content[:a] + first + content[b:c] + second + content[d:]
    patches = [Patch(c, d, second), Patch(a, b, first)]
    sink = io.BytesIO()

    assert write_patched(path, sink, patches) == digest_of(expected)
    assert hash_patched(path, patches) == (digest_of(content), digest_of(expected))
    assert sink.getvalue() == expected


def test_streams_files_larger_than_its_buffers(tmp_path, monkeypatch):
    """
    A file of many chunks, hashed in threads, gives the same result as a small one.
    """
    monkeypatch.setattr(patcher, "CHUNK_BYTES", 1000)  # for many chunks without gigabytes
    content = os.urandom(123_457)
    source, other = tmp_path / "source", tmp_path / "other"
    source.write_bytes(content)
    other.write_bytes(content[::-1])
    expected = content[:5] + content[::-1][100:90_100] + content[50_000:]
    patches = [Patch(5, 50_000, FileRange(other, 100, 90_100))]
    sink = io.BytesIO()

    assert write_patched(source, sink, patches) == digest_of(expected)
    assert sink.getvalue() == expected
    assert hash_patched(source, patches) == (digest_of(content), digest_of(expected))
    assert hash_file(source) == digest_of(content)


def test_refuses_sources_and_patches(tmp_path, golden):
    """
    Overlapping patches, those beyond an end, and a missing file are refused; `stop` cancels.
    """
    short, stop = tmp_path / "short", Event()
    short.write_bytes(bytes(4))
    stop.set()

    for patches in (
        [Patch(0, 3, b""), Patch(2, 4, b"")],
        [Patch(3, 5, b"")],
        [Patch(0, 4, FileRange(short, 2, 8))],
    ):
        with golden.raises(CheckpointError, "short"):
            hash_patched(short, patches)
    with golden.raises(CheckpointError, "nothing"):
        hash_file(tmp_path / "nothing")
    with pytest.raises(CancelledError):
        hash_file(short, stop)
