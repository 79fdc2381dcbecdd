"""
Write an edited copy of a checkpoint, its undo file and its manifest: all of it or nothing.

The base is copied and hashed while the edit is still being solved, and each new weight goes into
the place that the copy left open for it. What remains is to stamp the edited files with the digest
of the manifest, which holds the base's hashes, and to hash what came of it.
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
    """An output that is whole: where it is, and its manifest."""

    paths: OutputPaths
    manifest: Manifest


@contextmanager
def edited_copy(
    base: Checkpoint,
    final: OutputPaths,
    slots: tuple[TensorSlot, ...],
    what: str | None,
    *,
    force: bool = False,
) -> Iterator["_EditedCopy"]:
    """
    Begin to copy `base` to where its output will be, with `slots` left open.

    Every byte outside of the slots is the base's, but for the stamp in the headers of their files,
    which says in words `what` was done; with None there is no stamp.
    Nothing appears under its final name before all of it is whole and on disk, and the manifest
    comes last. On any failure, Ctrl-C included, or if the copy is never finished, nothing is left
    behind and what was there before stays.

    Raises:
        OutputExists: something has appeared there since `check_output`.
        MachineError: the disk fills meanwhile.
        CheckpointError: the base cannot be read, or changed since it was opened.
    """
    with staged_folder(final.root) as folder, Background() as background:
        staged = OutputPaths.of(folder / final.root.name, base.is_folder)
        with write_errors(final.root):
            edits = plan_edits(base, slots, what)
            copy = _EditedCopy(base, edits, (staged, final), background, force=force)
        yield copy


class _EditedCopy:
    """An output on its way, in its staging folder: `put` every slot, then `finish`."""

    def __init__(
        self,
        base: Checkpoint,
        edits: tuple[FileEdit, ...],
        places: tuple[OutputPaths, OutputPaths],  # where it is staged, where it will be
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
        Fill the place of a slot, and keep how far its tensor moves for the manifest.

        Raises:
            EditError: the content is not as long as the slot.
            MachineError, CheckpointError: the copy has failed meanwhile.
        """
        if len(content) != slot.end - slot.begin:
            raise EditError(
                f"the patch of `{printable(slot.key)}` has {len(content)} bytes, "
                f"its place has {slot.end - slot.begin}"
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
        Write all that belongs to the output, give it its final names, and return what it is.

        `make_manifest` is called once, with base and tensors, and lists exactly these; the output's
        files are filled in afterwards. `make_pages` is called with it, and returns what lies beside
        the weights by role: "recipe", "report", and "card", which only a folder has.

        Raises:
            EditError: no tensor has changed.
            MachineError: something could not be written.
            CheckpointError: the base cannot be read, has changed since the copy began, or since
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
        """Yield every file to copy; a base's file whose name the output needs is only hashed."""
        ours = {path.name for path in self._staged.beside} if self._base.is_folder else set()
        for entry in self._base.entries:
            if entry.path in ours:
                yield FileCopy(entry)
            elif entry.path not in self._base.left_out:
                yield FileCopy(entry, self._target(entry.path), self._edits.get(entry.path))

    def _tensors(self) -> tuple[TensorRecord, ...]:
        """Return the record of every tensor that has changed; raises EditError where none has."""
        found = [
            self._background.start(
                edit.record, self._moved[edit.file.path, name], self._target(edit.file.path)
            )
            for edit in self._edits.values()
            for name in edit.tensors
        ]
        tensors = tuple(one.result() for one in found)
        changed = tuple(one for one in tensors if one.sha256_before != one.sha256_after)
        if not changed:
            raise EditError(
                f"the edit changes nothing: all of its {len(tensors)} tensors keep their bytes",
                "lower `--ridge`",
            )
        return changed

    def _write(self, manifest: Manifest, pages: Mapping[str, str | bytes]) -> Output:
        """Write what depends on the base's hashes, hash all that is new, and return the records."""
        digest = manifest.digest()
        background, made = self._background, dict[Path, Future[Digest]]()
        for edit in self._edits.values():
            target = self._target(edit.file.path)
            edit.stamp(target, digest)
            made[target] = background.start(hash_file, target, background.stop)
            background.flush(target)  # the disk writes while we hash
        made[self._staged.undo] = background.start(self._write_undo, manifest)
        for role, content in pages.items():
            path = getattr(self._staged, role)
            made[path] = background.start(_write_small, path, content)
        background.finish()
        digests = {path: one.result() for path, one in made.items()}
        for copy in self._copies:
            if copy.target and not copy.edit:
                digests[copy.target] = self._copying.digests()[copy.entry.path]
        home = self._staged.home
        by_name = {path.relative_to(home).as_posix(): one for path, one in digests.items()}
        is_stamped = all(edit.what is not None for edit in self._edits.values())
        return Output(files=file_records(by_name), stamped=is_stamped)

    def _write_undo(self, manifest: Manifest) -> Digest:
        kept = [
            Original.raw(
                copy.entry.path, FILE_TENSOR, FileRange(copy.entry.source, 0, copy.entry.n_bytes)
            )
            for copy in self._copies
            if not copy.target
        ]
        edited = [one for edit in self._edits.values() for one in edit.originals(manifest.tensors)]
        with new_file(self._staged.undo) as file:
            write_undo(file, (*kept, *edited), manifest.base)
        return hash_file(self._staged.undo, self._background.stop)

    def _target(self, path: str) -> Path:
        return self._staged.root / path if self._staged.is_folder else self._staged.root


def put_in_place(staged: OutputPaths, final: OutputPaths, *, force: bool) -> None:
    """
    Give a staged output its final names, the weights after all but the manifest, which is last.

    Raises OutputExists where something has appeared there since `check_output`.
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
