"""
The bytes that an edit replaces in each file, the bytes that stood there, and the file's stamp.

An edited file names in its header the digest of its manifest. This stamp has the same length
whatever the digest, so that its place can be kept before the digest is known. Of the keys of the
SAI model spec (github.com/Stability-AI/ModelSpec) that a base carries, title and description are
brought up to date. Its date and its hashes are left out: they hold for the base alone, and the date
would make two runs of one recipe differ. The manifest holds both.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from loco_cli import __version__
from loco_cli.checkpoint.clone import BLOCK_BYTES
from loco_cli.checkpoint.files import CheckpointFile
from loco_cli.checkpoint.header import Header, read_header_bytes, render_header
from loco_cli.checkpoint.layout import Checkpoint
from loco_cli.checkpoint.patcher import FileRange, hash_content
from loco_cli.checkpoint.reader import TensorSlot
from loco_cli.checkpoint.undo import HEADER_TENSOR, Original
from loco_cli.manifest import STAMP_KEY, VERSION_KEY, TensorEdit, TensorRecord

_BLANK_DIGEST = "0" * 64
_SPEC = "modelspec."
_OF_THE_BASE = (f"{_SPEC}date", f"{_SPEC}hash_")


@dataclass(frozen=True)
class FileEdit:
    """
    What an edit will do to one file, known before anything is solved.

    `FileEdit(file, (slot, slot), "Remove the style of Van Gogh")` replaces two slots, and stamps
    the file with these words; with None in their place its header stays as it is.
    """

    file: CheckpointFile
    slots: tuple[TensorSlot, ...]
    what: str | None

    @cached_property
    def head(self) -> bytes:
        """Return all that comes before the data, with an empty place for the digest."""
        if self.what is None:
            return read_header_bytes(self.file.source)
        return _stamped_header(self.file.header, self.what)

    @property
    def shift(self) -> int:
        """Return by how many bytes the data moves."""
        return len(self.head) - self.file.header.data_start

    @property
    def kept(self) -> tuple[tuple[int, int], ...]:
        """Return the ranges of the base's data that stay, from the first byte of the file."""
        slots = sorted(self.slots, key=lambda slot: slot.begin)
        begins = [self.file.header.data_start, *(slot.end for slot in slots)]
        ends = [*(slot.begin for slot in slots), self.file.header.file_bytes]
        return tuple(zip(begins, ends, strict=True))

    @property
    def tensors(self) -> tuple[str, ...]:
        """Return the names of the tensors to edit; q, k and v may be three slots of one tensor."""
        return tuple(dict.fromkeys(slot.tensor for slot in self.slots))

    def record(self, edit: TensorEdit, target: Path) -> TensorRecord:
        """Return the record of an edited tensor in `target`, where the edited file is."""
        header, source = self.file.header, self.file.source
        begin, end = header.span(edit.name)
        return TensorRecord(
            name=edit.name,
            file=self.file.path,
            shape=header.tensors[edit.name].shape,
            dtype=header.tensors[edit.name].dtype,
            sha256_before=hash_content(FileRange(source, begin, end)),
            sha256_after=hash_content(FileRange(target, begin + self.shift, end + self.shift)),
            rank=edit.rank,
            relative_change=edit.relative_change,
            rounding_error=edit.rounding_error,
        )

    def stamp(self, target: Path, digest: str) -> None:
        """Write the digest of the manifest into `target`, if the file is to have a stamp."""
        if self.what is None:
            return
        head = _stamped_header(self.file.header, self.what, digest)
        assert len(head) == len(self.head)
        with target.open("r+b") as file:
            file.write(head)

    def originals(self, tensors: Iterable[TensorRecord]) -> tuple[Original, ...]:
        """Return what undoing needs: those of the tensors that are the file's, and its header."""
        file, source = self.file.path, self.file.source
        kept = (
            Original(
                file, t.name, t.dtype, t.shape, FileRange(source, *self.file.header.span(t.name))
            )
            for t in tensors
            if t.file == file
        )
        return (*kept, Original.raw(file, HEADER_TENSOR, read_header_bytes(source)))


def plan_edits(
    base: Checkpoint, slots: tuple[TensorSlot, ...], what: str | None
) -> tuple[FileEdit, ...]:
    """Return the edit of each file that holds one of the slots; `what` is as in `FileEdit`."""
    own = ((file, tuple(s for s in slots if s.file == file.path)) for file in base.files)
    return tuple(FileEdit(file, found, what) for file, found in own if found)


def _stamped_header(header: Header, what: str, digest: str = _BLANK_DIGEST) -> bytes:
    """
    Return the bytes before the data of an edited file, for a base with this header.

    `what` says in a few words what was done ("Remove the style of Van Gogh"). Spaces behind the
    JSON move the data by whole blocks, so that a file system can share them with the base's.
    """
    base = {k: v for k, v in header.metadata.items() if not k.startswith(_OF_THE_BASE)}
    updates = {
        f"{_SPEC}title": f" ({what})",
        f"{_SPEC}description": f"\n\nEdited with loco {__version__}: {what}.",
    }
    metadata = {key: value + updates.get(key, "") for key, value in base.items()}
    metadata |= {VERSION_KEY: __version__, STAMP_KEY: digest}
    raw = render_header(header.tensors.values(), metadata)[8:]
    raw += b" " * ((header.data_start - 8 - len(raw)) % BLOCK_BYTES)
    return struct.pack("<Q", len(raw)) + raw
