"""
A sentencepiece model (`spiece.model`, as T5 has it) as data, without the library of that name.

The file is a protocol buffer: fields, each a number, a kind and a value. Three are read here.

    1   piece        1 its text, 2 its score, 3 its type: 2 unknown, 3 control, 4 given by hand
    3   normalizer   2 a table of characters that become others, compiled
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from loco_cli.errors import CheckpointError

_UNKNOWN = 2
_LIMIT_BYTES = 64 << 20  # T5's has 0.8 MB
_INTEGER_BYTES = 10  # 64 bits, seven to a byte


@dataclass(frozen=True)
class PieceModel:
    """
    Pieces with their scores, the number of the one for the unknown, the table of characters.
    """

    pieces: tuple[tuple[str, float], ...]
    unknown: int
    characters: bytes


def read_piece_model(path: Path) -> PieceModel:
    """Return a sentencepiece model; raises CheckpointError."""
    try:
        if path.stat().st_size > _LIMIT_BYTES:
            raise ValueError("it is too long")
        return _parse(path.read_bytes())
    except (OSError, ValueError, LookupError, struct.error) as error:
        raise CheckpointError(f"`{path}` is no sentencepiece model that can be read") from error


def _parse(content: bytes) -> PieceModel:
    pieces: list[tuple[str, float]] = []
    unknown: int | None = None
    characters = b""
    for number, value in _fields(content):
        if number == 1:
            piece = dict(_fields(_as_bytes(value)))
            (score,) = struct.unpack("<f", _as_bytes(piece.get(2, bytes(4))))
            if piece.get(3) == _UNKNOWN:
                unknown = len(pieces)
            pieces.append((_as_bytes(piece[1]).decode(), score))
        elif number == 3:
            characters = _as_bytes(dict(_fields(_as_bytes(value))).get(2, b""))
    if unknown is None:
        raise ValueError("no piece stands for the unknown")
    return PieceModel(tuple(pieces), unknown, characters)


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field: an integer, or the bytes of everything else."""
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
            raise ValueError(f"field {number} is of kind {kind}")
        if at + size > len(content):
            raise ValueError(f"field {number} is cut short")
        yield number, content[at : at + size]
        at += size


def _integer(content: bytes, at: int) -> tuple[int, int]:
    """Return a number, seven bits to a byte and the lowest first, and where it ends."""
    value = 0
    for place in range(_INTEGER_BYTES):
        byte = content[at]
        value |= (byte & 0x7F) << 7 * place
        at += 1
        if byte < 0x80:
            return value, at
    raise ValueError("a number has no end")


def _as_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number stands where text should")
    return value
