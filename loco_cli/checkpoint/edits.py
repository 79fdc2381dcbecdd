"""
The edit of each file: replaced bytes, original bytes, and the stamp in the header.

The header of an edited file holds the digest of its manifest. This stamp has a fixed length, so its
space can be reserved before the digest is known. If the base has keys of the SAI model spec
(github.com/Stability-AI/ModelSpec), its title and description are updated. Its date and its hashes
are dropped: they describe the base alone, and a date would make two runs of one recipe differ. The
manifest has the date and the hashes.
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
_BASE_ONLY_KEYS = (f"{_SPEC}date", f"{_SPEC}hash_")


@dataclass(frozen=True)
class FileEdit:
    """
    The planned edit of one file, before any weights are solved.

    `FileEdit(file, (slot, slot), "Remove the style of Van Gogh")` replaces two slots and stamps the
    file with this title. With `title=None` the header stays unchanged.
    """

    file: CheckpointFile
    slots: tuple[TensorSlot, ...]
    title: str | None

    @cached_property
    def head(self) -> bytes:
        """Return the header bytes of the edited file, with space for the digest."""
        if self.title is None:
            return read_header_bytes(self.file.source)
        return _stamped_header(self.file.header, self.title)

    @property
    def shift(self) -> int:
        """Return the number of bytes by which the data moves."""
        return len(self.head) - self.file.header.data_start

    @property
    def kept(self) -> tuple[tuple[int, int], ...]:
        """Return the unchanged data ranges of the base, counted from the start of its file."""
        slots = sorted(self.slots, key=lambda slot: slot.begin)
        begins = [self.file.header.data_start, *(slot.end for slot in slots)]
        ends = [*(slot.begin for slot in slots), self.file.header.file_bytes]
        return tuple(zip(begins, ends, strict=True))

    @property
    def tensors(self) -> tuple[str, ...]:
        """Return the names of the edited tensors; a fused tensor may hold q, k and v as slots."""
        return tuple(dict.fromkeys(slot.tensor for slot in self.slots))

    def record(self, edit: TensorEdit, target: Path) -> TensorRecord:
        """Return the record of a tensor that was edited in the file `target`."""
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
        """Write the digest of the manifest into `target`, if the edit stamps its files."""
        if self.title is None:
            return
        head = _stamped_header(self.file.header, self.title, digest)
        assert len(head) == len(self.head)
        with target.open("r+b") as file:
            file.write(head)

    def originals(self, tensors: Iterable[TensorRecord]) -> tuple[Original, ...]:
        """Return the originals of this file for the undo file: edited tensors and the header."""
        file, source = self.file.path, self.file.source
        originals = (
            Original(
                file, t.name, t.dtype, t.shape, FileRange(source, *self.file.header.span(t.name))
            )
            for t in tensors
            if t.file == file
        )
        return (*originals, Original.raw(file, HEADER_TENSOR, read_header_bytes(source)))


def plan_edits(
    base: Checkpoint, slots: tuple[TensorSlot, ...], title: str | None
) -> tuple[FileEdit, ...]:
    """
    Plan the edit of each file that holds a slot.

    Args:
        base: The checkpoint to edit.
        slots: The tensors to replace.
        title: The title of the edit for the stamp; None writes no stamp.

    Returns:
        One edit per file with slots, in the order of the base's files.
    """
    by_file = ((file, tuple(s for s in slots if s.file == file.path)) for file in base.files)
    return tuple(FileEdit(file, in_file, title) for file, in_file in by_file if in_file)


def _stamped_header(header: Header, title: str, digest: str = _BLANK_DIGEST) -> bytes:
    """
    Return the header bytes of an edited file, given the header of its base.

    Spaces after the JSON move the data by whole blocks, so a file system can share them with the
    base.
    """
    base = {k: v for k, v in header.metadata.items() if not k.startswith(_BASE_ONLY_KEYS)}
    updates = {
        f"{_SPEC}title": f" ({title})",
        f"{_SPEC}description": f"\n\nEdited with loco {__version__}: {title}.",
    }
    metadata = {key: value + updates.get(key, "") for key, value in base.items()}
    metadata |= {VERSION_KEY: __version__, STAMP_KEY: digest}
    raw = render_header(header.tensors.values(), metadata)[8:]
    raw += b" " * ((header.data_start - 8 - len(raw)) % BLOCK_BYTES)
    return struct.pack("<Q", len(raw)) + raw
