"""
The edited copy of a checkpoint, with its undo file and manifest, written atomically.

The base is copied and hashed while the edit is still being solved. The copy skips the edited
ranges, and each new weight is written into its range. At the end, the edited files are stamped with
the digest of the manifest, which covers the hashes of the base, and are hashed.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loco_cli.checkpoint.edits import FileEdit, plan_edits
from loco_cli.checkpoint.layout import Checkpoint
from loco_cli.checkpoint.patcher import Digest, FileRange, hash_file
from loco_cli.checkpoint.reader import TensorSlot
from loco_cli.checkpoint.staging import (
    folder_lock,
    new_file,
    put_files,
    put_folder,
    staged_folder,
    write_errors,
)
from loco_cli.checkpoint.undo import FILE_TENSOR, Original, write_undo
from loco_cli.errors import EditError, printable
from loco_cli.manifest import Base, Manifest, Output, TensorEdit, TensorRecord
from loco_cli.outputs.base import base_record, file_records
from loco_cli.outputs.copying import Background, BaseCopy, FileCopy
from loco_cli.outputs.paths import OutputPaths, check_free

_MakeManifest = Callable[[Base, tuple[TensorRecord, ...]], Manifest]


@dataclass(frozen=True)
class EditResult:
    """A complete output: its paths and its manifest."""

    paths: OutputPaths
    manifest: Manifest


@contextmanager
def edited_copy(
    base: Checkpoint,
    final: OutputPaths,
    slots: tuple[TensorSlot, ...],
    title: str | None,
    *,
    force: bool = False,
) -> Iterator["_EditedCopy"]:
    """
    Start a copy of `base` in the background, without the content of `slots`.

    All bytes outside of the slots equal the base, except for the stamp in the headers. Files appear
    under their final names only once all of them are complete and on disk; the manifest comes last.
    After any failure, Ctrl-C included, or without `finish`, no new file remains and the old output
    stays.

    Args:
        base: The checkpoint to copy.
        final: The paths of the output.
        slots: The tensors to replace.
        title: The title of the edit for the stamp; None writes no stamp.
        force: Replace an existing output.

    Yields:
        The copy: `put` each slot, then call `finish`.

    Raises:
        OutputExists: A file has appeared there since `check_output`.
        MachineError: The disk is full.
        CheckpointError: The base cannot be read, or changed since it was opened.
    """
    with staged_folder(final.root) as folder, Background() as background:
        staged = OutputPaths.of(folder / final.root.name, base.is_folder)
        with write_errors(final.root):
            edits = plan_edits(base, slots, title)
            copy = _EditedCopy(base, edits, (staged, final), background, force=force)
        yield copy


class _EditedCopy:
    """A copy in its staging folder: `put` every slot, then `finish`."""

    def __init__(
        self,
        base: Checkpoint,
        edits: tuple[FileEdit, ...],
        places: tuple[OutputPaths, OutputPaths],  # staged, final
        background: Background,
        *,
        force: bool,
    ) -> None:
        self._base, self._background, self._force = base, background, force
        self._staged, self._final = places
        self._edits = {edit.file.path: edit for edit in edits}
        self._open = {slot for edit in edits for slot in edit.slots}
        self._moved: dict[tuple[str, str], TensorEdit] = {}  # by file and tensor
        self._copies = tuple(self._file_copies())
        self._copying = BaseCopy(self._copies, background)

    def put(self, slot: TensorSlot, content: bytes, edit: TensorEdit) -> None:
        """
        Write the new content of a slot.

        Args:
            slot: One of the slots of the copy.
            content: The new bytes.
            edit: The figures of the tensor for the manifest.

        Raises:
            EditError: The content is not as long as the slot.
            MachineError: The copy cannot be written.
            CheckpointError: The base cannot be read.
        """
        if len(content) != slot.end - slot.begin:
            raise EditError(
                f"the new content of `{printable(slot.key)}` has {len(content)} bytes, "
                f"but the tensor has {slot.end - slot.begin}"
            )
        with write_errors(self._final.root):
            self._background.raise_failure()
            with self._target(slot.file).open("r+b") as file:
                file.seek(slot.begin + self._edits[slot.file].shift)
                file.write(content)
        self._open.remove(slot)
        self._moved[slot.file, slot.tensor] = edit

    def finish(
        self,
        make_manifest: _MakeManifest,
        make_pages: Callable[[Manifest], Mapping[str, str | bytes]],
    ) -> EditResult:
        """
        Write the remaining files, and rename all files to their final names.

        Args:
            make_manifest: Builds the manifest from base and tensors, which it must list unchanged.
                It is called once; the files of the output are added afterwards.
            make_pages: Renders the files beside the weights from the manifest, by role: "recipe",
                "report", and for a folder "card".

        Returns:
            The paths of the output and its manifest.

        Raises:
            EditError: No tensor has changed.
            MachineError: A file cannot be written.
            CheckpointError: The base cannot be read, or has changed since the copy began or since
                its own manifest was written.
        """
        assert not self._open
        with write_errors(self._final.root):
            base, tensors = base_record(self._base, self._copying.digests()), self._tensors()
        manifest = make_manifest(base, tensors)
        assert (manifest.base, manifest.tensors) == (base, tensors)
        with write_errors(self._final.root):
            pages = make_pages(manifest)
            manifest = manifest.with_output(self._write(manifest, pages))
            with new_file(self._staged.manifest) as file:
                file.write(manifest.render().encode())
            self._copying.check_unchanged()
            put_in_place(self._staged, self._final, force=self._force)
        return EditResult(self._final, manifest)

    def _file_copies(self) -> Iterator[FileCopy]:
        """Yield the files to copy; a base file with the name of an output file is only hashed."""
        new_names = {path.name for path in self._staged.beside} if self._base.is_folder else set()
        for entry in self._base.entries:
            if entry.path in new_names:
                yield FileCopy(entry)
            elif entry.path not in self._base.left_out:
                yield FileCopy(entry, self._target(entry.path), self._edits.get(entry.path))

    def _tensors(self) -> tuple[TensorRecord, ...]:
        """Return the records of all changed tensors; raise EditError if there are none."""
        futures = [
            self._background.start(
                edit.record, self._moved[edit.file.path, name], self._target(edit.file.path)
            )
            for edit in self._edits.values()
            for name in edit.tensors
        ]
        tensors = tuple(future.result() for future in futures)
        changed = tuple(t for t in tensors if t.sha256_before != t.sha256_after)
        if not changed:
            raise EditError(
                f"the edit changes nothing: all {len(tensors)} tensors keep the same bytes",
                "lower `--ridge`",
            )
        return changed

    def _write(self, manifest: Manifest, pages: Mapping[str, str | bytes]) -> Output:
        """Stamp the edited files, write all others but the manifest, and return their records."""
        digest = manifest.digest()
        background, hashing = self._background, dict[Path, Future[Digest]]()
        for edit in self._edits.values():
            target = self._target(edit.file.path)
            edit.stamp(target, digest)
            hashing[target] = background.start(hash_file, target, background.stop)
            background.flush(target)  # the disk writes during the hashing
        hashing[self._staged.undo] = background.start(self._write_undo, manifest)
        for role, content in pages.items():
            path = getattr(self._staged, role)
            hashing[path] = background.start(_write_small, path, content)
        background.finish()
        digests = {path: future.result() for path, future in hashing.items()}
        for copy in self._copies:
            if copy.target and not copy.edit:
                digests[copy.target] = self._copying.digests()[copy.entry.path]
        home = self._staged.home
        by_name = {path.relative_to(home).as_posix(): found for path, found in digests.items()}
        is_stamped = all(edit.title is not None for edit in self._edits.values())
        return Output(files=file_records(by_name), stamped=is_stamped)

    def _write_undo(self, manifest: Manifest) -> Digest:
        replaced = [
            Original.raw(
                copy.entry.path, FILE_TENSOR, FileRange(copy.entry.source, 0, copy.entry.n_bytes)
            )
            for copy in self._copies
            if not copy.target
        ]
        edited = [o for edit in self._edits.values() for o in edit.originals(manifest.tensors)]
        with new_file(self._staged.undo) as file:
            write_undo(file, (*replaced, *edited), manifest.base)
        return hash_file(self._staged.undo, self._background.stop)

    def _target(self, path: str) -> Path:
        return self._staged.root / path if self._staged.is_folder else self._staged.root


def put_in_place(staged: OutputPaths, final: OutputPaths, *, force: bool) -> None:
    """
    Rename a staged output to its final names: first the other files, then weights, then manifest.

    Args:
        staged: The paths of the complete output in its staging folder.
        final: The final paths.
        force: Replace an existing output.

    Raises:
        OutputExists: A file has appeared there since `check_output`.
    """
    with folder_lock(final.root.parent):
        check_free(final.places, is_folder=final.is_folder, force=force)
        if final.is_folder:
            put_folder(staged.root, final.root)
            return
        pairs = zip(_in_order(staged), _in_order(final), strict=True)
        written = {here: there for here, there in pairs if here.exists()}
        stale = tuple(path for path in final.beside if path not in written.values())
        put_files(written, stale)


def _in_order(paths: OutputPaths) -> tuple[Path, ...]:
    *beside, manifest = paths.beside
    return (*beside, paths.root, manifest)


def _write_small(path: Path, content: str | bytes) -> Digest:
    with new_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return hash_file(path)
