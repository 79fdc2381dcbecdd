"""The header of a safetensors file, in literal bytes and with every rule broken."""

import json
import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from loco_cli.checkpoint.header import (
    TensorInfo,
    parse_header,
    read_header,
    read_header_bytes,
    render_header,
)
from loco_cli.errors import CheckpointError, printable

ONE_TENSOR = (
    b"\x50\x00\x00\x00\x00\x00\x00\x00"
    b'{"__metadata__":{"a":"b"},"w":{"dtype":"F16","shape":[2],'
    b'"data_offsets":[0,4]}} '
    b"\x00\x3c\x00\x40"
)


def file_of(header, data=b"", *, length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.fixture
def broken(tmp_path):
    """Return the message that refuses a file with these bytes."""

    def read(content):
        path = tmp_path / "x.safetensors"
        path.write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            read_header(path)
        return caught.value.message.replace(str(path), "x.safetensors")

    return read


def test_reads_the_format_byte_for_byte(tmp_path):
    """
    Eight bytes of length, JSON, data; offsets count from the data, and metadata may be null.
    """
    path, bare = tmp_path / "one.safetensors", tmp_path / "null.safetensors"
    path.write_bytes(ONE_TENSOR)
    bare.write_bytes(file_of({"__metadata__": None}))

    header, empty = read_header(path), read_header(bare)

    assert header.tensors == {"w": TensorInfo("w", "F16", (2,), 0, 4)}
    assert header.metadata == {"a": "b"}
    assert (header.data_start, header.file_bytes) == (88, 92)
    assert header.span("w") == (88, 92)
    assert read_header_bytes(path) == ONE_TENSOR[:88]
    assert (empty.tensors, empty.metadata) == ({}, {})
    with safe_open(bare, "np") as file:
        assert file.metadata() is None


def test_renders_metadata_first_and_pads_to_eight():
    """
    Metadata, if any, is first, tensors keep order and offsets, and the length is aligned.
    """
    tensors = [TensorInfo("z", "F16", (2,), 0, 4), TensorInfo("a", "I64", (), 4, 12)]

    rendered = render_header(tensors, {"format": "pt", "title": "é"})

    assert rendered == (
        b"\x98\x00\x00\x00\x00\x00\x00\x00"
        b'{"__metadata__":{"format":"pt","title":"\xc3\xa9"},'
        b'"z":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},'
        b'"a":{"dtype":"I64","shape":[],"data_offsets":[4,12]}} '
    )
    assert render_header([], {}) == b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "


BROKEN_FILES = {
    "empty": b"",
    "text": b"this is no model",
    "cut in the header": file_of(b"{}", length=90),
    "a list": file_of(b"[]"),
    "a space first": file_of(b" {}"),
    "cut in the JSON": file_of(b'{"a":'),
    "not UTF-8": file_of(b'{"\xff":1}'),
    "half a surrogate": file_of(b'{"\\ud800":1}'),
    "too deep": file_of(b'{"a":' + b"[" * 90_000),
    "too many values": file_of(b'{"a":[' + b"1," * 4_100_000 + b"1]}"),
    "a repeated key": file_of(b'{"a":1,"a":2}'),
    "NaN": file_of(b'{"a":NaN}'),
    "a number in the metadata": file_of({"__metadata__": {"a": 1}}),
    "a list of metadata": file_of({"__metadata__": []}),
    "a missing key": file_of({"w": {"dtype": "F32"}}),
    "a further key": file_of({"w": {**entry(), "x": 1}}, bytes(4)),
    "an unknown dtype": file_of({"w": entry("F33")}, bytes(4)),
    "a negative size": file_of({"w": entry(shape=(-1,))}, bytes(4)),
    "a size that is true": file_of({"w": entry(shape=(True,))}, bytes(4)),
    "a size beyond 64 bits": file_of({"w": entry(shape=(2**64,))}, bytes(4)),
    "too many dimensions": file_of({"w": entry(shape=(1,) * 65)}, bytes(4)),
    "a fractional offset": file_of({"w": entry(offsets=(0, 4.0))}, bytes(4)),
    "three offsets": file_of({"w": entry(offsets=(0, 2, 4))}, bytes(4)),
    "backward offsets": file_of({"w": entry(offsets=(4, 0))}, bytes(4)),
    "a wrong extent": file_of({"w": entry(shape=(2,))}, bytes(4)),
    "overlapping tensors": file_of({"v": entry(), "w": entry(offsets=(2, 6))}, bytes(6)),
    "a gap": file_of({"v": entry(), "w": entry(offsets=(8, 12))}, bytes(12)),
    "cut in the data": file_of({"w": entry()}, bytes(3)),
    "bytes at the end": file_of({"w": entry()}, bytes(7)),
}


def test_refuses_every_broken_file(broken, golden):
    """
    A file that breaks a rule of the format is refused in one line that names the file.
    """
    messages = {name: broken(content) for name, content in BROKEN_FILES.items()}

    for name, message in messages.items():
        golden(f"{name}: {message}")
    assert [m for m in messages.values() if "x.safetensors" not in m or "\n" in m] == []


def test_recognises_a_git_lfs_pointer(tmp_path, golden):
    """
    The hint for a git-lfs pointer names the command that fetches the file.
    """
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")

    with golden.raises(CheckpointError, "git lfs pull"):
        read_header(path)


def test_escapes_control_characters(broken):
    """
    A message shows control characters in the name of a tensor as escapes.
    """
    message = broken(file_of({"\x1b[2Jw\u202e": entry("F33")}, bytes(4)))

    assert "`\\x1b[2Jw\\u202e`" in message
    assert printable("a" * 500, limit=10) == "a" * 10 + "…"


@settings(deadline=None)  # a busy machine is not a failure
@given(
    shapes=st.lists(st.lists(st.integers(0, 3), max_size=3), max_size=5),
    metadata=st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3),
)
def test_reads_what_it_renders(shapes, metadata, tmp_path_factory):
    """
    Parsing a rendered header gives back its tensors and metadata.
    """
    tensors, begin = {}, 0
    for n, shape in enumerate(shapes):
        n_bytes = 2
        for size in shape:
            n_bytes *= size
        tensors[str(n)] = TensorInfo(str(n), "F16", tuple(shape), begin, begin + n_bytes)
        begin += n_bytes

    rendered = render_header(tensors.values(), metadata)
    header = parse_header(tmp_path_factory.getbasetemp(), rendered[8:], len(rendered) + begin)

    assert dict(header.tensors) == tensors
    assert header.metadata == metadata
    assert len(rendered) % 8 == 0


@settings(deadline=None)  # a busy machine is not a failure
@given(content=st.binary(max_size=60), with_length=st.booleans())
def test_reads_any_bytes_or_raises_its_own_error(content, with_length, tmp_path_factory):
    """
    Arbitrary bytes are either read or refused with CheckpointError.
    """
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    path.write_bytes(file_of(content) if with_length else content)

    with suppress(CheckpointError):
        read_header(path)
