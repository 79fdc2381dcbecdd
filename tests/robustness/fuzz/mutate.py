"""Changes of an input: bytes flipped, removed and repeated, values of a document exchanged."""

import json
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

# values that no honest program writes, and that readers stumble over
HOSTILE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    2**64,
    10**40,
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    "",
    " ",
    "0",
    "auto",
    "a" * 5000,
    "../../etc/passwd",
    "/etc/passwd",
    "C:\\x",
    "a\\b",
    "a:b",
    "x\0y",
    "\x1b[2J\x1b]0;title\x07",
    "\u202egnp.exe",
    "\ud800",
    "<script>alert(1)</script>",
    "{subject}{to}{0.__class__}",
    "%s%n",
    "0" * 64,
    [],
    {},
    [[]],
    [None],
    {"": {}},
    {"__metadata__": {}},
    [0, 1],
    [2**62, 2**62],
    ["a", "b"],
)
_TOKENS = (
    *b"{ } [ ] : , \" ' \\ # & * ! | > - -- --- ... ~ @ ` % &a *a 8:10 1_000".split(),
    *b"!!python/object:os.system null true NaN Infinity 1e999 .inf -1 0 999999999999999999".split(),
    *(b"\n", b"\t", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\x00", b"\x1b[31m", b"\xe2\x80\xae"),
    *(b"<<: *a", b"\\ud800", b"\\u0000", b"loco", b"edits", b"\n  - ", b'"../x"'),
)
Change = Callable[[Random, bytes, Sequence[bytes]], bytes]


def mutate(rng: Random, content: bytes, corpus: Sequence[bytes]) -> bytes:
    """Return an input with one to four changes; parts may come from the rest of the corpus."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        content = rng.choice(_CHANGES)(rng, content, corpus)
    return content[: 1 << 16]


def exchange(rng: Random, tree: Any, other: Any) -> Any:
    """Return a document with one value removed, repeated, hostile, or from another document."""
    entries = list(_entries(tree))
    holder, key = rng.choice(entries) if entries else (None, None)
    if holder is None:
        return rng.choice(HOSTILE)
    match rng.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[rng.choice(("", "extra", str(key) + "x", "\x1b[2J", "../x"))] = holder.pop(key)
        case 2 if isinstance(holder, list):
            holder *= rng.choice((0, 2, 50))
        case 3:
            donors = list(_entries(other))
            donor, donor_key = rng.choice(donors) if donors else (holder, key)
            holder[key] = json.loads(json.dumps(donor[donor_key]))
        case _:
            holder[key] = rng.choice(HOSTILE)
    return tree


def _entries(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the container and the key of each value of a document."""
    stack = [tree]
    while stack:
        holder = stack.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            yield holder, key
            if isinstance(holder[key], dict | list):
                stack.append(holder[key])


def _exchange_value(rng: Random, content: bytes, corpus: Sequence[bytes]) -> bytes:
    try:
        tree, other = json.loads(content), json.loads(rng.choice(corpus))
    except (ValueError, RecursionError):
        return _insert_token(rng, content, corpus)
    if not isinstance(tree, dict | list) or not isinstance(other, dict | list):
        return _insert_token(rng, content, corpus)
    text = json.dumps(exchange(rng, tree, other))
    return text.encode("utf-8", "surrogatepass")


def _replace_byte(rng: Random, content: bytes, corpus: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]


def _remove_bytes(rng: Random, content: bytes, corpus: Sequence[bytes]) -> bytes:
    at, n = rng.randrange(len(content) + 1), rng.choice((1, 2, 8, 64, 1000))
    return content[:at] + content[at + n :]


def _repeat_bytes(rng: Random, content: bytes, corpus: Sequence[bytes]) -> bytes:
    at, n = rng.randrange(len(content) + 1), rng.choice((1, 2, 8, 64))
    return content[:at] + content[at : at + n] * rng.choice((2, 3, 100)) + content[at + n :]


def _insert_token(rng: Random, content: bytes, corpus: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.choice(_TOKENS) * rng.choice((1, 1, 1, 20)) + content[at:]


def _insert_part(rng: Random, content: bytes, corpus: Sequence[bytes]) -> bytes:
    other = rng.choice(corpus)
    begin = rng.randrange(len(other) + 1)
    at = rng.randrange(len(content) + 1)
    return content[:at] + other[begin : begin + rng.choice((4, 32, 256))] + content[at:]


_CHANGES: tuple[Change, ...] = (
    *[_exchange_value] * 3,
    _replace_byte,
    _remove_bytes,
    _repeat_bytes,
    _insert_token,
    _insert_part,
)
