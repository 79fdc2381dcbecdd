"""The safetensors header: the format in literal bytes, and every way to break it."""

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
    """Return the message with which a file of these bytes is refused."""

    def read(content):
        path = tmp_path / "x.safetensors"
        path.write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            read_header(path)
        return caught.value.message.replace(str(path), "x.safetensors")

    return read


def test_reads_the_format_byte_for_byte(tmp_path):
    """
    Eight bytes of length, JSON, data; offsets count from the data.
    """
    path = tmp_path / "one.safetensors"
    path.write_bytes(ONE_TENSOR)

    header = read_header(path)

    assert header.tensors == {"w": TensorInfo("w", "F16", (2,), 0, 4)}
    assert header.metadata == {"a": "b"}
    assert (header.data_start, header.file_bytes) == (88, 92)
    assert header.span("w") == (88, 92)
    assert read_header_bytes(path) == ONE_TENSOR[:88]


def test_no_metadata_may_be_spelled_out(tmp_path):
    """
    A null is read as nothing, as the format's own reader takes it.
    """
    path = tmp_path / "one.safetensors"
    path.write_bytes(file_of({"__metadata__": None}))

    assert (read_header(path).tensors, read_header(path).metadata) == ({}, {})
    with safe_open(path, "np") as file:
        assert file.metadata() is None


def test_renders_metadata_first_and_pads_to_eight():
    """
    A header begins with `{"__metadata__"`, keeps order and offsets, and its length is aligned.
    """
    tensors = [TensorInfo("z", "F16", (2,), 0, 4), TensorInfo("a", "I64", (), 4, 12)]

    rendered = render_header(tensors, {"format": "pt", "title": "é"})

    assert rendered == (
        b"\x98\x00\x00\x00\x00\x00\x00\x00"
        b'{"__metadata__":{"format":"pt","title":"\xc3\xa9"},'
        b'"z":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},'
        b'"a":{"dtype":"I64","shape":[],"data_offsets":[4,12]}} '
    )


def test_renders_nothing_for_no_metadata():
    """
    Without metadata there is no `__metadata__`, as the format's own writer has it.
    """
    assert render_header([], {}) == b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "


BREAKAGES = {
    "nothing": (b"", "it has 0 bytes, the format needs at least 8"),
    "text": (b"this is no model", "its first 8 bytes ask for a header of"),
    "cut in the header": (file_of(b"{}", length=90), "its header takes 98 bytes, the file has 10"),
    "no object": (file_of(b"[]"), "its header does not begin with `{`"),
    "a space first": (file_of(b" {}"), "its header does not begin with `{`"),
    "no JSON": (file_of(b'{"a":'), "is damaged: Expecting value"),
    "no UTF-8": (file_of(b'{"\xff":1}'), "byte 10 is no UTF-8"),
    "half a surrogate": (file_of(b'{"\\ud800":1}'), "half of a surrogate pair"),
    "a depth bomb": (file_of(b'{"a":' + b"[" * 90_000), "is damaged"),
    "a value bomb": (file_of(b'{"a":[' + b"1," * 4_100_000 + b"1]}"), "about 4100002 values"),
    "a key twice": (file_of(b'{"a":1,"a":2}'), "it has the key `a` twice"),
    "NaN": (file_of(b'{"a":NaN}'), "it holds NaN"),
    "metadata that is a number": (
        file_of({"__metadata__": {"a": 1}}),
        "metadata `a` is 1, not text",
    ),
    "metadata that is a list": (file_of({"__metadata__": []}), "`__metadata__` is no object"),
    "a missing key": (file_of({"w": {"dtype": "F32"}}), "must have `dtype`, `shape` and"),
    "a spare key": (file_of({"w": {**entry(), "x": 1}}, bytes(4)), "and nothing else"),
    "a dtype unheard of": (file_of({"w": entry("F33")}, bytes(4)), "unknown dtype `F33`"),
    "a negative size": (file_of({"w": entry(shape=(-1,))}, bytes(4)), "shape [-1]"),
    "a size that is true": (file_of({"w": entry(shape=(True,))}, bytes(4)), "shape [True]"),
    "a size beyond reason": (file_of({"w": entry(shape=(2**64,))}, bytes(4)), "no list of sizes"),
    "too many sizes": (file_of({"w": entry(shape=(1,) * 65)}, bytes(4)), "no list of sizes"),
    "a fraction of a byte": (file_of({"w": entry(offsets=(0, 4.0))}, bytes(4)), "no [begin, end]"),
    "three offsets": (file_of({"w": entry(offsets=(0, 2, 4))}, bytes(4)), "no [begin, end]"),
    "backward offsets": (file_of({"w": entry(offsets=(4, 0))}, bytes(4)), "no [begin, end]"),
    "a lie about the extent": (
        file_of({"w": entry(shape=(2,))}, bytes(4)),
        "is F32 [2], which takes 8 bytes, its offsets give it 4",
    ),
    "overlapping tensors": (
        file_of({"v": entry(), "w": entry(offsets=(2, 6))}, bytes(6)),
        "tensors `v` and `w` overlap: one ends at byte 4, the other begins at 2",
    ),
    "a hole": (
        file_of({"v": entry(), "w": entry(offsets=(8, 12))}, bytes(12)),
        "nothing owns the bytes 4 to 8, before tensor `w`",
    ),
    "cut in the data": (
        file_of({"w": entry()}, bytes(3)),
        "its tensors take 4 bytes, the file holds 3",
    ),
    "bytes at the end": (file_of({"w": entry()}, bytes(7)), "has 3 bytes after its last tensor"),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_refuses(breakage, broken):
    """
    Whatever breaks a rule of the format is refused with what, where, and both numbers.
    """
    content, expected = BREAKAGES[breakage]

    message = broken(content)

    assert expected in message
    assert "x.safetensors" in message
    assert "\n" not in message


def test_tells_a_git_lfs_pointer(tmp_path):
    """
    A pointer that git-lfs left in the file's place is named, with the way out.
    """
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")

    with pytest.raises(CheckpointError) as caught:
        read_header(path)

    assert "git lfs pull" in caught.value.hint


def test_a_name_cannot_speak_to_the_terminal(broken):
    """
    Control characters in a tensor's name are printed as escapes.
    """
    message = broken(file_of({"\x1b[2Jw\u202e": entry("F33")}, bytes(4)))

    assert "`\\x1b[2Jw\\u202e`" in message
    assert printable("a" * 500, limit=10) == "a" * 10 + "…"


@settings(deadline=None)  # a busy machine is no failure
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


@settings(deadline=None)  # a busy machine is no failure
@given(content=st.binary(max_size=60), with_length=st.booleans())
def test_never_fails_but_by_its_own_error(content, with_length, tmp_path_factory):
    """
    Any bytes at all are read, or refused as a checkpoint error.
    """
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    path.write_bytes(file_of(content) if with_length else content)

    with suppress(CheckpointError):
        read_header(path)
