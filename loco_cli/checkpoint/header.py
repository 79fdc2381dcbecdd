"""
The header of a safetensors file: a strict reader and a writer in the standard library.

A file is  `N: u64, little endian | N bytes of JSON | data`.  The JSON maps each tensor to
`{"dtype", "shape", "data_offsets": [begin, end]}`. Offsets count from the first byte of the data,
the data has neither gaps nor overlaps, and `__metadata__` maps strings to strings.
"""

import json
import math
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from loco_cli.errors import CheckpointError, printable

HEADER_LIMIT_BYTES = 100_000_000  # the limit of the format
_MAX_JSON_VALUES = 1_000_000  # a header of this many values takes about 700 MB to parse
_MAX_DIMENSIONS = 64
_SIZE_LIMIT = 2**63  # sizes and offsets are 64-bit integers in other readers

ITEM_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "I8", "U8"), 8),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}


@dataclass(frozen=True)
class TensorInfo:
    """
    One entry: `TensorInfo("conv_in.weight", "F16", (8, 4, 3, 3), begin=0, end=576)`.

    `begin` and `end` count bytes from the first byte of the data, as the format does.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """
    The header of a file: `Header({"conv_in.weight": ...}, {"format": "pt"}, 4096, 8192)`.

    `tensors` keeps the order of the file; `data_start` is the offset of the data in the file.
    """

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    data_start: int
    file_bytes: int

    def span(self, name: str) -> tuple[int, int]:
        """Return the begin and end of a tensor, counted from the first byte of the file."""
        tensor = self.tensors[name]
        return self.data_start + tensor.begin, self.data_start + tensor.end


def read_header(path: Path) -> Header:
    """
    Read the header of the safetensors file at `path`.

    Raises:
        CheckpointError: The file breaks a rule of the format; the message names rule and place.
    """
    return parse_header(path, *_read_raw(path))


def parse_header(path: Path, raw: bytes, file_bytes: int) -> Header:
    """Parse the JSON `raw` as the header of a file of `file_bytes` bytes at `path`."""
    tree = _parse_json(path, raw)
    metadata = _metadata(path, tree.pop("__metadata__", None))
    tensors = {name: _tensor(path, name, entry) for name, entry in tree.items()}
    data_start = 8 + len(raw)
    _check_extents(path, tensors.values(), file_bytes - data_start)
    return Header(tensors, metadata, data_start, file_bytes)


def read_header_bytes(path: Path) -> bytes:
    """Return the bytes of a file before its data, including the 8 length bytes."""
    raw, _ = _read_raw(path)
    return struct.pack("<Q", len(raw)) + raw


def render_header(tensors: Iterable[TensorInfo], metadata: Mapping[str, str]) -> bytes:
    """
    Return the bytes before the data: length, compact JSON, and spaces up to a multiple of 8.

    The metadata comes first, because A1111 looks for it only there. Order and offsets of the
    tensors are kept.
    """
    tree: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    for tensor in tensors:
        offsets = [tensor.begin, tensor.end]
        tree[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": offsets,
        }
    raw = json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    if len(raw) > HEADER_LIMIT_BYTES:
        raise CheckpointError(
            f"the new header would have {len(raw)} bytes; the format allows {HEADER_LIMIT_BYTES}"
        )
    return struct.pack("<Q", len(raw)) + raw


def parse_strict_json(text: str) -> Any:
    """
    Parse `text` as JSON.

    Raises:
        ValueError: It is not JSON, repeats a key, nests too deep, or has NaN or a lone surrogate.
    """
    try:
        tree = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        if "\\u" in text:
            json.dumps(tree, ensure_ascii=False).encode()  # raises for a lone surrogate
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("it contains half of a surrogate pair") from None
    return tree


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = counts.most_common(1)[0][0]
        raise ValueError(f"it has the key `{printable(twice)}` twice")
    return tree


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"it contains {word}, which is not JSON")


def _read_raw(path: Path) -> tuple[bytes, int]:
    """Return the JSON of a file's header, and the length of the file in bytes."""
    try:
        with path.open("rb") as file:
            file_bytes = file.seek(0, 2)
            file.seek(0)
            first = file.read(8)
            n_bytes = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
            raw = file.read(n_bytes) if n_bytes <= HEADER_LIMIT_BYTES else b""
    except OSError as error:
        raise CheckpointError(f"cannot read `{printable(path)}`: {error.strerror}") from error
    refusal = f"`{printable(path)}` is not a safetensors file: "
    if file_bytes < 8:
        raise CheckpointError(
            f"{refusal}it has {file_bytes} bytes, but the format needs at least 8"
        )
    if n_bytes > HEADER_LIMIT_BYTES:
        raise CheckpointError(
            f"{refusal}its first 8 bytes give a header length of {n_bytes} bytes, "
            f"but the format allows at most {HEADER_LIMIT_BYTES}",
            _hint(first),
        )
    if 8 + n_bytes > file_bytes:
        raise CheckpointError(
            f"`{printable(path)}` is cut short: "
            f"its header needs {8 + n_bytes} bytes, but the file has only {file_bytes}"
        )
    if not raw.startswith(b"{"):
        raise CheckpointError(f"{refusal}its header does not begin with `{{`")
    return raw, file_bytes


def _hint(first: bytes) -> str | None:
    if first.startswith(b"version "):
        return "this is a git-lfs pointer; fetch the file itself with `git lfs pull`"
    if first.startswith((b"PK\x03\x04", b"\x80\x02")):
        return "this is a pickle with another suffix; convert it to safetensors"
    return None


def _parse_json(path: Path, raw: bytes) -> dict[str, Any]:
    n_values = raw.count(b",") + raw.count(b"[") + raw.count(b"{")
    if n_values > _MAX_JSON_VALUES:
        raise CheckpointError(
            f"header of `{printable(path)}` has about {n_values} values, but loco reads at "
            f"most {_MAX_JSON_VALUES}"
        )
    try:
        tree = parse_strict_json(raw.decode())
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"header of `{printable(path)}`: byte {8 + error.start} is not UTF-8"
        ) from error
    except ValueError as error:
        raise CheckpointError(
            f"header of `{printable(path)}` is damaged: {printable(error)}"
        ) from error
    if not isinstance(tree, dict):
        raise CheckpointError(f"header of `{printable(path)}` is damaged: it is not a JSON object")
    return tree


def _metadata(path: Path, metadata: object) -> dict[str, str]:
    if metadata is None:  # the reader of the format accepts `null`, too
        return {}
    if not isinstance(metadata, dict):
        raise CheckpointError(f"header of `{printable(path)}`: `__metadata__` is not an object")
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise CheckpointError(
                f"header of `{printable(path)}`: "
                f"metadata `{printable(key)}` is {printable(value, 40)}, not text"
            )
    return metadata


def _tensor(path: Path, name: str, entry: object) -> TensorInfo:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(
            f"{_where(path, name)} must have exactly `dtype`, `shape` and `data_offsets`"
        )
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BITS:
        raise CheckpointError(f"{_where(path, name)} has the unknown dtype `{printable(dtype)}`")
    if not _are_sizes(shape) or len(shape) > _MAX_DIMENSIONS:
        raise CheckpointError(
            f"{_where(path, name)} has the shape {printable(shape, 60)}, "
            "which is not a list of sizes"
        )
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(
            f"{_where(path, name)} has the offsets {printable(offsets, 60)}, "
            "which are not [begin, end]"
        )
    n_bits = math.prod(shape) * ITEM_BITS[dtype]
    extent = offsets[1] - offsets[0]
    if n_bits != 8 * extent:
        raise CheckpointError(
            f"{_where(path, name)} is {dtype} {shape}, which needs {-(-n_bits // 8)} bytes, "
            f"but its offsets span {extent}"
        )
    return TensorInfo(name, dtype, tuple(shape), offsets[0], offsets[1])


def _where(path: Path, name: str) -> str:
    # formatted only on an error, because a header has thousands of tensors
    return f"header of `{printable(path)}`: tensor `{printable(name)}`"


def _are_sizes(values: object) -> bool:
    # bool is a subclass of int, but `true` is not a size
    return isinstance(values, list) and all(type(v) is int and 0 <= v < _SIZE_LIMIT for v in values)


def _check_extents(path: Path, tensors: Iterable[TensorInfo], data_bytes: int) -> None:
    end, last = 0, None
    for tensor in sorted(tensors, key=lambda t: (t.begin, t.end)):
        if tensor.begin < end and last is not None:
            raise CheckpointError(
                f"header of `{printable(path)}`: "
                f"tensors `{printable(last)}` and `{printable(tensor.name)}` overlap: "
                f"one ends at byte {end}, but the other begins at {tensor.begin}"
            )
        if tensor.begin > end:
            raise CheckpointError(
                f"header of `{printable(path)}`: bytes {end} to {tensor.begin}, before tensor "
                f"`{printable(tensor.name)}`, belong to no tensor"
            )
        end, last = tensor.end, tensor.name
    if end > data_bytes:
        raise CheckpointError(
            f"`{printable(path)}` is cut short: "
            f"its tensors need {end} bytes, but the file has only {data_bytes}"
        )
    if end < data_bytes:
        n_extra = data_bytes - end
        unit = "byte" if n_extra == 1 else "bytes"
        raise CheckpointError(f"`{printable(path)}` has {n_extra} {unit} after its last tensor")
