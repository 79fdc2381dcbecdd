"""
An edit as a LoRA file; the base is only read and hashed.

The manifest lists the tensors that the LoRA changes. The hash after the edit is the hash of the
merged tensor at strength 1: base plus change, rounded once to the tensor's dtype.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256

from torch import Tensor

from loco_cli import __version__
from loco_cli.checkpoint.layout import Checkpoint
from loco_cli.checkpoint.lora import LowRank, lora_metadata, lora_tensors, write_lora
from loco_cli.checkpoint.patcher import hash_file
from loco_cli.checkpoint.reader import (
    TensorSlot,
    finest,
    read_range,
    read_tensor,
    tensor_bytes,
)
from loco_cli.checkpoint.staging import check_space, new_file, staged_folder, write_errors
from loco_cli.editing.deltas import SolvedEdit, TensorChange, read_change, shorten
from loco_cli.editing.model_edit import ModelEdit
from loco_cli.errors import EditError
from loco_cli.events import Events
from loco_cli.manifest import (
    STAMP_KEY,
    VERSION_KEY,
    Base,
    Output,
    TensorEdit,
    TensorRecord,
)
from loco_cli.models.locate import LocatedModel
from loco_cli.outputs.base import base_record, file_records
from loco_cli.outputs.checkpoint import EditResult, put_in_place
from loco_cli.outputs.copying import Background, BaseCopy, FileCopy
from loco_cli.outputs.manifest import ManifestBuilder
from loco_cli.outputs.paths import EditOptions, OutputPaths


@dataclass(frozen=True)
class _Adapter:
    """A solved edit as factors, with the records of the base tensors that they change."""

    changes: tuple[LowRank, ...]
    tensors: tuple[TensorRecord, ...]
    edits: tuple[TensorEdit, ...]  # in the order of `tensors`


@contextmanager
def edited_lora(
    edit: ModelEdit, options: EditOptions, final: OutputPaths
) -> Iterator["_EditedLora"]:
    """
    Start to hash the base of a LoRA in the background.

    Args:
        edit: The edit that will be solved.
        options: The options of the output.
        final: The paths of the output.

    Yields:
        The LoRA: call `finish` with the solved edit.

    Raises:
        MachineError: The base cannot be read.
        CheckpointError: The base has changed since it was opened.
    """
    with Background() as background:
        with write_errors(final.root):
            hashing = _begin_hashing(edit.located.checkpoint, background)
        yield _EditedLora(edit, options, final, hashing)


@dataclass(frozen=True)
class _EditedLora:
    """A LoRA that is not written yet."""

    edit: ModelEdit
    options: EditOptions
    final: OutputPaths
    hashing: BaseCopy

    def finish(self, solved: SolvedEdit, events: Events) -> EditResult:
        """
        Write the LoRA, its recipe and its manifest.

        Args:
            solved: The solved edit.
            events: Receives the preview of the edit before it is written.

        Returns:
            The paths of the output and its manifest.

        Raises:
            EditError: The edit changes nothing, or exceeds the range of the base's dtypes.
            OutputExists: A file has appeared there since `check_output`.
            MachineError: The disk is too full, or a file cannot be written.
            CheckpointError: The base has changed since the hashing began, or since its own
                manifest was written.
        """
        edit, final, options = self.edit, self.final, self.options
        adapter = _adapt(edit.located, solved)
        base = base_record(edit.located.checkpoint, self.hashing.digests())
        record = ManifestBuilder(edit, options, solved, adapter.edits)
        events.previewed(record.preview)
        manifest = record.manifest(base, adapter.tensors)
        tensors = lora_tensors(edit.located.spec.family.lora, adapter.changes)
        check_space(final.root.parent, sum(tensor.nbytes for tensor in tensors.values()))
        with staged_folder(final.root) as folder, write_errors(final.root):
            staged = OutputPaths.of(folder / final.root.name, is_folder=False)
            with new_file(staged.root) as file:
                metadata = _metadata(edit, final.root.stem, adapter, manifest.base)
                if options.stamp:
                    metadata |= {VERSION_KEY: __version__, STAMP_KEY: manifest.digest()}
                write_lora(file, tensors, metadata)
            with new_file(staged.recipe) as file:
                file.write(edit.recipe.text.encode())
            manifest = manifest.with_output(_output(staged, options.stamp))
            with new_file(staged.manifest) as file:
                file.write(manifest.render().encode())
            self.hashing.check_unchanged()
            put_in_place(staged, final, force=options.force)
        return EditResult(final, manifest)


def _adapt(located: LocatedModel, solved: SolvedEdit) -> _Adapter:
    """
    Return the float32 factors of a solved edit, and the records of the changed base tensors.

    Raises:
        EditError: The factors change nothing, or a merged tensor is not finite.
    """
    changes: list[LowRank] = []
    moved: list[tuple[TensorRecord, TensorEdit]] = []
    for change in solved.changes:
        # programs never load an EMA copy, but may load any other variant of the tensor; the LoRA
        # is applied to the variant that they load
        copies = located.checkpoint.slots(change.component, change.name)
        slots = [slot for slot in copies if slot.component == change.component]
        _, left, right = read_change(finest(slots), change.update)
        up, down = (factor.float() for factor in shorten(left, right))
        if up.shape[1]:
            changes.append(LowRank(change.component, change.name.removesuffix(".weight"), up, down))
            moved += [
                _moved(located.checkpoint, slot, change, (left, right), (up, down))
                for slot in slots
            ]
    tensors = tuple(record for record, _ in moved)
    if not any(record.sha256_before != record.sha256_after for record in tensors):
        raise EditError(
            f"the edit changes nothing: all {len(tensors)} tensors keep the same values",
            "lower `--ridge`",
        )
    return _Adapter(tuple(changes), tensors, tuple(edit for _, edit in moved))


def _moved(
    base: Checkpoint,
    slot: TensorSlot,
    of: TensorChange,
    solved: tuple[Tensor, Tensor],
    stored: tuple[Tensor, Tensor],
) -> tuple[TensorRecord, TensorEdit]:
    """Return the record and the figures of a tensor after the merge of the stored factors."""
    left, right = (factor.double() for factor in stored)
    weight, change, wanted = read_tensor(slot).double(), left @ right, solved[0] @ solved[1]
    header = base.header(slot.file)
    begin, end = header.span(slot.tensor)
    before = read_range(slot.source, begin, end)
    after = bytearray(before)  # the slot may be one third of a fused tensor
    after[slot.begin - begin : slot.end - begin] = tensor_bytes(weight + change, slot)
    size = weight.norm().item()
    edit = TensorEdit(
        file=slot.file,
        name=slot.tensor,
        dtype=slot.dtype,
        rank=left.shape[1],
        relative_change=change.norm().item() / size if size else 0.0,
        rounding_error=((change - wanted).norm() / wanted.norm()).item(),
        drifts=of.probe.drifts(weight, change),
    )
    record = TensorRecord(
        name=slot.tensor,
        file=slot.file,
        shape=header.tensors[slot.tensor].shape,
        dtype=header.tensors[slot.tensor].dtype,
        sha256_before=sha256(before).hexdigest(),
        sha256_after=sha256(after).hexdigest(),
        rank=edit.rank,
        relative_change=edit.relative_change,
        rounding_error=edit.rounding_error,
    )
    return record, edit


def _begin_hashing(base: Checkpoint, background: Background) -> BaseCopy:
    """Start to hash every file of the base; none is copied."""
    entries = (entry for entry in base.entries if entry.path not in base.left_out)
    return BaseCopy(tuple(map(FileCopy, entries)), background)


def _metadata(edit: ModelEdit, name: str, adapter: _Adapter, base: Base) -> dict[str, str]:
    checkpoint, spec = edit.located.checkpoint, edit.located.spec
    metadata = lora_metadata(
        spec,
        rank=max(change.up.shape[1] for change in adapter.changes),
        name=name,
        title=edit.title,
        base=edit.located.name if checkpoint.is_folder else base.name,
    )
    licence = checkpoint.files[0].header.metadata.get("modelspec.license")
    if metadata and licence:
        metadata["modelspec.license"] = licence
    if metadata and not checkpoint.is_folder:
        metadata["ss_new_sd_model_hash"] = base.files[0].sha256
    return metadata


def _output(staged: OutputPaths, is_stamped: bool) -> Output:
    digests = {path.name: hash_file(path) for path in (staged.root, staged.recipe)}
    return Output(files=file_records(digests), kind="lora", stamped=is_stamped)
