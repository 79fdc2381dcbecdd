"""Inputs made of inputs: bytes flipped, cut and repeated, values of a document exchanged."""

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

# what no honest program writes, and readers trip over
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
_WORDS = (
    *b"{ } [ ] : , \" ' \\ # & * ! | > - -- --- ... ~ @ ` % &a *a 8:10 1_000".split(),
    *b"!!python/object:os.system null true NaN Infinity 1e999 .inf -1 0 999999999999999999".split(),
    *(b"\n", b"\t", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\x00", b"\x1b[31m", b"\xe2\x80\xae"),
    *(b"<<: *a", b"\\ud800", b"\\u0000", b"loco", b"edits", b"\n  - ", b'"../x"'),
)
Change = Callable[[Random, bytes, Sequence[bytes]], bytes]


def mutate(luck: Random, content: bytes, corpus: Sequence[bytes]) -> bytes:
    """Return some input with one to four changes; parts may come from others of the corpus."""
    for _ in range(luck.choice((1, 1, 1, 2, 3, 4))):
        content = luck.choice(_CHANGES)(luck, content, corpus)
    return content[: 1 << 16]


def exchange(luck: Random, tree: Any, other: Any) -> Any:
    """Return a document in which one value is gone, hostile, doubled, or from another document."""
    places = list(_places(tree))
    holder, key = luck.choice(places) if places else (None, None)
    if holder is None:
        return luck.choice(HOSTILE)
    match luck.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[luck.choice(("", "extra", str(key) + "x", "\x1b[2J", "../x"))] = holder.pop(key)
        case 2 if isinstance(holder, list):
            holder *= luck.choice((0, 2, 50))
        case 3:
            donors = list(_places(other))
            giver, there = luck.choice(donors) if donors else (holder, key)
            holder[key] = json.loads(json.dumps(giver[there]))
        case _:
            holder[key] = luck.choice(HOSTILE)
    return tree


def _places(tree: Any) -> Any:
    stack = [tree]
    while stack:
        here = stack.pop()
        keys = list(here) if isinstance(here, dict) else range(len(here))
        for key in keys:
            yield here, key
            if isinstance(here[key], dict | list):
                stack.append(here[key])


def _in_tree(luck: Random, content: bytes, corpus: Sequence[bytes]) -> bytes:
    try:
        tree, other = json.loads(content), json.loads(luck.choice(corpus))
    except (ValueError, RecursionError):
        return _word(luck, content, corpus)
    if not isinstance(tree, dict | list) or not isinstance(other, dict | list):
        return _word(luck, content, corpus)
    text = json.dumps(exchange(luck, tree, other))
    return text.encode("utf-8", "surrogatepass")


def _flip(luck: Random, content: bytes, corpus: Sequence[bytes]) -> bytes:
    at = luck.randrange(len(content) + 1)
    return content[:at] + bytes([luck.randrange(256)]) + content[at + 1 :]


def _drop(luck: Random, content: bytes, corpus: Sequence[bytes]) -> bytes:
    at, n = luck.randrange(len(content) + 1), luck.choice((1, 2, 8, 64, 1000))
    return content[:at] + content[at + n :]


def _repeat(luck: Random, content: bytes, corpus: Sequence[bytes]) -> bytes:
    at, n = luck.randrange(len(content) + 1), luck.choice((1, 2, 8, 64))
    return content[:at] + content[at : at + n] * luck.choice((2, 3, 100)) + content[at + n :]


def _word(luck: Random, content: bytes, corpus: Sequence[bytes]) -> bytes:
    at = luck.randrange(len(content) + 1)
    return content[:at] + luck.choice(_WORDS) * luck.choice((1, 1, 1, 20)) + content[at:]


def _splice(luck: Random, content: bytes, corpus: Sequence[bytes]) -> bytes:
    other = luck.choice(corpus)
    begin = luck.randrange(len(other) + 1)
    at = luck.randrange(len(content) + 1)
    return content[:at] + other[begin : begin + luck.choice((4, 32, 256))] + content[at:]


_CHANGES: tuple[Change, ...] = (_in_tree, _in_tree, _in_tree, _flip, _drop, _repeat, _word, _splice)
