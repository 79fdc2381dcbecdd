"""Write an edited copy of a checkpoint, its undo file and its manifest: all of it or nothing."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from loco_cli import __version__
from loco_cli.checkpoint.edits import EditedTensor, FileEdit, plan_file_edits
from loco_cli.checkpoint.header import render_header, shown
from loco_cli.checkpoint.layout import Checkpoint
from loco_cli.checkpoint.patcher import Digest, FileRange, Patch, copy_patched, hash_file
from loco_cli.checkpoint.slot import TensorSlot
from loco_cli.checkpoint.staging import new_file, put_files, put_folder, staging
from loco_cli.checkpoint.tree import Entry
from loco_cli.checkpoint.undo import FILE_TENSOR, Original, write_undo
from loco_cli.errors import CheckpointError, VerificationError
from loco_cli.manifest import (
    STAMP_KEY,
    VERSION_KEY,
    Base,
    FileRecord,
    Manifest,
    Output,
    Parent,
    render_manifest,
)
from loco_cli.workflows.outputs import (
    OutputPaths,
    check_output,
    needed_bytes,
    output_paths,
    read_manifest,
)

_BLANK_DIGEST = "0" * 64  # keeps the stamp's place until the manifest is known


@dataclass(frozen=True)
class BaseFacts:
    """What only the writer knows of an edit, for its manifest: the base's hashes, each tensor's."""

    base: Base
    tensors: tuple[EditedTensor, ...]


@dataclass(frozen=True)
class WrittenEdit:
    """An output that is whole: where it is, and its manifest."""

    paths: OutputPaths
    manifest: Manifest


def write_edit(
    base: Checkpoint,
    output: Path,
    patches: Mapping[TensorSlot, bytes],
    make_manifest: Callable[[BaseFacts], Manifest],
    extra_files: Mapping[str, str | bytes],
    *,
    stamp: bool = True,
    force: bool = False,
) -> WrittenEdit:
    """
    Write `base` with `patches` to `output`, in the base's layout, and return what was written.

    Every byte that no patch names is the base's, but for the stamp in the headers of edited files.
    `make_manifest` is called once, when the base is hashed, and lists exactly the tensors that it
    is given; the output's files are filled in afterwards. `extra_files` are by role: "recipe",
    "report", and "card", which only a folder has. Nothing appears under its final name before all
    of it is whole and on disk, and the manifest comes last. On any failure, Ctrl-C included,
    nothing is left behind and what was there before stays.

    Raises:
        EditError: no patch changes anything, or one has not the size of its slot.
        OutputExists, RequestError, MachineError: as `check_output`, or the disk fills meanwhile.
        CheckpointError: the base cannot be read, or changed since it was opened.
    """
    paths = output_paths(output, base.is_folder)
    room = needed_bytes(base, sum(len(content) for content in patches.values()))
    check_output(base.root, paths, needed_bytes=room, force=force)
    edits = plan_file_edits(base, patches)
    with staging(paths.root) as staged:
        writer = _Writer(base, edits, output_paths(staged / paths.root.name, base.is_folder), stamp)
        writer.copy_base("card" in extra_files)
        writer.write_undo()
        writer.write_extra(extra_files)
        manifest = writer.write_manifest(make_manifest)
        put_in_place(writer.paths, paths)
    return WrittenEdit(paths, manifest)


def put_in_place(staged: OutputPaths, final: OutputPaths) -> None:
    """Give a staged output its final names, in place of what may be there; the manifest is last."""
    if final.is_folder:
        put_folder(staged.root, final.root)
        return
    pairs = zip((staged.root, *staged.beside), (final.root, *final.beside), strict=True)
    written = {here: there for here, there in pairs if here.exists()}
    stale = tuple(path for path in final.beside if path not in written.values())
    put_files(written, stale)


class _Writer:
    """One output on its way, in its staging folder."""

    def __init__(
        self, base: Checkpoint, edits: Mapping[str, FileEdit], paths: OutputPaths, stamp: bool
    ) -> None:
        self.paths = paths
        self._base, self._edits, self._stamp = base, edits, stamp
        self._base_files: list[FileRecord] = []
        self._output_files: list[FileRecord] = []
        self._originals: list[Original] = []

    def copy_base(self, with_card: bool) -> None:
        ours = {path.name for path in self.paths.beside if with_card or path != self.paths.card}
        for entry in self._base.entries:
            if entry.path in self._base.left_out:
                continue
            if entry.path in self._edits:
                self._copy_edited(entry, self._edits[entry.path])
            elif self._base.is_folder and entry.path in ours:
                self._keep_for_undo(entry)
            else:
                self._copy_whole(entry)

    def write_undo(self) -> None:
        with new_file(self.paths.undo) as file:
            write_undo(file, self._originals, self._base_record())
        self._add_output(self.paths.undo, hash_file(self.paths.undo))

    def write_extra(self, extra_files: Mapping[str, str | bytes]) -> None:
        for role, content in extra_files.items():
            path = self.paths.named(role)
            if path is None:
                continue
            with new_file(path) as file:
                file.write(content.encode() if isinstance(content, str) else content)
            self._add_output(path, hash_file(path))

    def write_manifest(self, make_manifest: Callable[[BaseFacts], Manifest]) -> Manifest:
        tensors = tuple(tensor for edit in self._edits.values() for tensor in edit.tensors)
        facts = BaseFacts(self._base_record(), tensors)
        manifest = make_manifest(facts)
        assert manifest.base == facts.base
        assert {t.key for t in manifest.tensors} == {f"{t.file}:{t.name}" for t in tensors}
        for edit in self._edits.values() if self._stamp else ():
            self._write_stamp(edit, manifest.digest())
        files = tuple(sorted(self._output_files, key=lambda record: record.path))
        manifest = manifest.with_output(Output(files=files, stamped=self._stamp))
        with new_file(self.paths.manifest) as file:
            file.write(render_manifest(manifest).encode())
        return manifest

    def _copy_whole(self, entry: Entry) -> None:
        target = self._target(entry.path)
        with new_file(target) as file:
            copied = copy_patched(entry.source, file, ())
        self._add_base(entry, copied.source)
        self._add_output(target, copied.source)

    def _copy_edited(self, entry: Entry, edit: FileEdit) -> None:
        target, patches = self._target(entry.path), edit.patches
        if self._stamp:
            blank = _stamped_header(edit, _BLANK_DIGEST)
            patches = (Patch(0, edit.file.header.data_start, blank), *patches)
        # a stamped file is hashed and flushed when its stamp is known
        with new_file(target, is_synced=not self._stamp) as file:
            copied = copy_patched(entry.source, file, patches, with_result=not self._stamp)
        if copied.source.n_bytes != edit.file.header.file_bytes:
            raise CheckpointError(f"`{shown(entry.source)}` changed while it was copied")
        self._originals += edit.originals()
        self._add_base(entry, copied.source)
        if copied.result:
            self._add_output(target, copied.result)

    def _keep_for_undo(self, entry: Entry) -> None:
        content = FileRange(entry.source, 0, entry.n_bytes)
        self._originals.append(Original.raw(entry.path, FILE_TENSOR, content))
        self._add_base(entry, hash_file(entry.source))

    def _write_stamp(self, edit: FileEdit, digest: str) -> None:
        target = self._target(edit.file.path)
        with target.open("r+b") as file, ThreadPoolExecutor(1) as thread:
            file.write(_stamped_header(edit, digest))
            file.flush()
            synced = thread.submit(os.fsync, file.fileno())  # the disk writes while we hash
            self._add_output(target, hash_file(target))
            synced.result()

    def _base_record(self) -> Base:
        return Base(
            files=tuple(sorted(self._base_files, key=lambda record: record.path)),
            parent=_parent(self._base),
            name=self._base.root.resolve().name or "base",
            left_out=self._base.left_out,
        )

    def _target(self, path: str) -> Path:
        return self.paths.root / path if self.paths.is_folder else self.paths.root

    def _add_base(self, entry: Entry, digest: Digest) -> None:
        self._base_files.append(_record(entry.path, digest))

    def _add_output(self, path: Path, digest: Digest) -> None:
        self._output_files.append(_record(path.relative_to(self.paths.home).as_posix(), digest))


def _record(path: str, digest: Digest) -> FileRecord:
    return FileRecord(path=path, bytes=digest.n_bytes, sha256=digest.sha256)


def _stamped_header(edit: FileEdit, digest: str) -> bytes:
    header = edit.file.header
    metadata = {**header.metadata, VERSION_KEY: __version__, STAMP_KEY: digest}
    metadata.pop("modelspec.hash_sha256", None)  # of the tensors as they were
    return render_header(header.tensors.values(), metadata)


def _parent(base: Checkpoint) -> Parent | None:
    """Return the edit that made the base: by its manifest, or by the stamp alone if that is all."""
    stamps = {
        file.header.metadata[STAMP_KEY] for file in base.files if STAMP_KEY in file.header.metadata
    }
    try:
        found = read_manifest(base.root)
    except VerificationError:
        found = None
    if found and (found.digest in stamps or not stamps):
        return Parent(manifest=found.digest, recipe_sha256=found.manifest.recipe.sha256)
    stamp = min(stamps, default="")
    is_digest = len(stamp) == 64 and not set(stamp) - set("0123456789abcdef")
    return Parent(manifest=stamp) if is_digest else None
