"""Which bytes of which files an edit replaces, and what it replaces them for."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from loco_cli.checkpoint.header import read_header_bytes, shown
from loco_cli.checkpoint.layout import Checkpoint, CheckpointFile
from loco_cli.checkpoint.patcher import FileRange, Patch, hash_content
from loco_cli.checkpoint.reader import read_range
from loco_cli.checkpoint.slot import TensorSlot
from loco_cli.checkpoint.undo import HEADER_TENSOR, Original
from loco_cli.errors import EditError


@dataclass(frozen=True)
class EditedTensor:
    """
    What an edit does to one tensor of one file, under the name that it has there.

    `EditedTensor("unet/a.safetensors", "...attn2.to_k.weight", "F16", (320, 768), "ba78...", ...)`.
    """

    file: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    sha256_before: str
    sha256_after: str


@dataclass(frozen=True)
class FileEdit:
    """What an edit does to one file: its patches, and what the file held in their place."""

    file: CheckpointFile
    tensors: tuple[EditedTensor, ...]
    patches: tuple[Patch, ...] = field(repr=False)

    def originals(self) -> tuple[Original, ...]:
        """Return what undoing needs: the header, and each edited tensor as it is in the base."""
        header, source = self.file.header, self.file.source
        tensors = (
            Original(
                self.file.path,
                tensor.name,
                tensor.dtype,
                tensor.shape,
                FileRange(source, *header.span(tensor.name)),
            )
            for tensor in self.tensors
        )
        return (*tensors, Original.raw(self.file.path, HEADER_TENSOR, read_header_bytes(source)))


def plan_file_edits(base: Checkpoint, patches: Mapping[TensorSlot, bytes]) -> dict[str, FileEdit]:
    """
    Return the edits of each file that `patches` change, by its path.

    A patch that holds what is there already is no edit and is left out.

    Raises:
        EditError: a patch has not the size of its slot, or none of them changes anything.
    """
    edits = {}
    for file in base.files:
        found = _file_edit(
            file, {slot: new for slot, new in patches.items() if slot.file == file.path}
        )
        if found.tensors:
            edits[file.path] = found
    if not edits:
        raise EditError(
            f"the edit changes nothing: all of its {len(patches)} tensors keep their bytes"
        )
    return edits


def _file_edit(file: CheckpointFile, patches: Mapping[TensorSlot, bytes]) -> FileEdit:
    tensors, changes = [], []
    for name in dict.fromkeys(slot.tensor for slot in patches):
        parts = [_patch(slot, new) for slot, new in patches.items() if slot.tensor == name]
        tensor = _edited_tensor(file, name, parts)
        if tensor.sha256_before != tensor.sha256_after:
            tensors.append(tensor)
            changes += parts
    return FileEdit(file, tuple(tensors), tuple(changes))


def _patch(slot: TensorSlot, new: bytes) -> Patch:
    if len(new) != slot.end - slot.begin:
        raise EditError(
            f"the patch of `{shown(slot.key)}` has {len(new)} bytes, "
            f"its place has {slot.end - slot.begin}"
        )
    return Patch(slot.begin, slot.end, new)


def _edited_tensor(file: CheckpointFile, name: str, parts: list[Patch]) -> EditedTensor:
    begin, end = file.header.span(name)
    before = read_range(file.source, begin, end)
    after = bytearray(before)  # q, k and v may be edited apart in one fused tensor
    for part in parts:
        assert isinstance(part.content, bytes)
        after[part.begin - begin : part.end - begin] = part.content
    info = file.header.tensors[name]
    return EditedTensor(
        file=file.path,
        name=name,
        dtype=info.dtype,
        shape=info.shape,
        sha256_before=hash_content(before),
        sha256_after=hashlib.sha256(after).hexdigest(),
    )
