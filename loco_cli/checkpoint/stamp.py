"""
What an edited file says of itself in its header: its manifest's digest, and what it is now.

The stamp has the same length whatever the digest, so that its place can be kept before the digest
is known. Of the keys of the SAI model spec (github.com/Stability-AI/ModelSpec) that a base carries,
title and description are brought up to date, and what is true of the base alone is left out: its
date, which would make two runs of one recipe differ, and its hashes. The manifest holds both.
"""

import struct

from loco_cli import __version__
from loco_cli.checkpoint.clone import BLOCK_BYTES
from loco_cli.checkpoint.header import Header, render_header
from loco_cli.manifest import STAMP_KEY, VERSION_KEY

_BLANK_DIGEST = "0" * 64
_SPEC = "modelspec."
_OF_THE_BASE = (f"{_SPEC}date", f"{_SPEC}hash_")


def stamped_header(header: Header, what: str, digest: str = _BLANK_DIGEST) -> bytes:
    """
    Return the bytes before the data of an edited file, for a base with this header.

    `what` says in a few words what was done ("Remove the style of Van Gogh"). Spaces behind the
    JSON move the data by whole blocks, so that a file system can share them with the base's.
    """
    metadata = {
        key: _updated(key, value, what)
        for key, value in header.metadata.items()
        if not key.startswith(_OF_THE_BASE)
    }
    metadata |= {VERSION_KEY: __version__, STAMP_KEY: digest}
    raw = render_header(header.tensors.values(), metadata)[8:]
    raw += b" " * ((header.data_start - 8 - len(raw)) % BLOCK_BYTES)
    return struct.pack("<Q", len(raw)) + raw


def _updated(key: str, value: str, what: str) -> str:
    if key == f"{_SPEC}title":
        return f"{value} ({what})"
    if key == f"{_SPEC}description":
        return f"{value}\n\nEdited with loco {__version__}: {what}."
    return value
