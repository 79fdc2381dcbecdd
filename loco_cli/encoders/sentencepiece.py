"""
A parser of sentencepiece models (`spiece.model` of T5) that does not need the library.

The file is a protocol buffer: a sequence of fields, each with a number, a wire type and a value.
The parser uses two of them, with these subfields:

    1   piece        1 text, 2 score, 3 type (2 unknown, 3 control, 4 user-defined)
    3   normalizer   2 the compiled table of character replacements
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from loco_cli.errors import CheckpointError

_UNKNOWN_TYPE = 2  # the type of the piece for unknown text
_MAX_BYTES = 64 << 20  # T5's file is 0.8 MB
_MAX_INTEGER_BYTES = 10  # 64 bits, seven in each byte


@dataclass(frozen=True)
class PieceModel:
    """
    A sentencepiece model.

    Args:
        pieces: Text and score of each piece.
        unknown: The index of the piece for unknown text.
        characters: The compiled table of character replacements.
    """

    pieces: tuple[tuple[str, float], ...]
    unknown: int
    characters: bytes


def read_piece_model(path: Path) -> PieceModel:
    """Read a sentencepiece model; raises CheckpointError."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("the file is too large")
        return _parse(path.read_bytes())
    except (OSError, ValueError, LookupError, struct.error) as error:
        raise CheckpointError(f"`{path}` is not a readable sentencepiece model") from error


def _parse(content: bytes) -> PieceModel:
    pieces: list[tuple[str, float]] = []
    unknown: int | None = None
    characters = b""
    for number, value in _fields(content):
        if number == 1:
            piece = dict(_fields(_as_bytes(value)))
            (score,) = struct.unpack("<f", _as_bytes(piece.get(2, bytes(4))))
            if piece.get(3) == _UNKNOWN_TYPE:
                unknown = len(pieces)
            pieces.append((_as_bytes(piece[1]).decode(), score))
        elif number == 3:
            characters = _as_bytes(dict(_fields(_as_bytes(value))).get(2, b""))
    if unknown is None:
        raise ValueError("there is no piece for unknown text")
    return PieceModel(tuple(pieces), unknown, characters)


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the number and the value of each field: an integer, or bytes for all other types."""
    at = 0
    while at < len(content):
        key, at = _integer(content, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _integer(content, at)
            yield number, value
            continue
        if kind == 2:
            size, at = _integer(content, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"field {number} has the unknown wire type {kind}")
        if at + size > len(content):
            raise ValueError(f"field {number} is truncated")
        yield number, content[at : at + size]
        at += size


def _integer(content: bytes, at: int) -> tuple[int, int]:
    """Return a little-endian base-128 integer, and the offset of the byte after it."""
    value = 0
    for place in range(_MAX_INTEGER_BYTES):
        byte = content[at]
        value |= (byte & 0x7F) << 7 * place
        at += 1
        if byte < 0x80:
            return value, at
    raise ValueError("an integer is longer than 64 bits")


def _as_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a field contains a number instead of text")
    return value
