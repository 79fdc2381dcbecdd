"""Bring a base back from its edited copy, byte for byte, proven by hash before it appears."""

import os
from pathlib import Path

from loco_cli.checkpoint.header import read_header
from loco_cli.checkpoint.patcher import Digest, hash_file, iter_content, write_patched
from loco_cli.checkpoint.staging import (
    defer_sigint,
    folder_lock,
    new_file,
    put_files,
    put_folder,
    staging,
)
from loco_cli.checkpoint.undo import Undo, read_undo
from loco_cli.errors import CheckpointError, RequestError, VerificationError, printable
from loco_cli.manifest import FileRecord, Restoration
from loco_cli.outputs.paths import (
    OutputPaths,
    check_free,
    check_places,
    existing_output,
    read_manifest,
)

_SUFFIX = ".safetensors"


def run(output: Path, destination: Path | None = None, *, force: bool = False) -> Restoration:
    """
    Restore the base of `output` at `destination` and return what was restored.

    Without a destination it goes beside the output: under the base's own name if that is free, else
    as `<output>-undone`. Nothing appears there before every hash is the base's.

    Raises:
        RequestError: there is nothing at `output`, it is a LoRA, or there is no place to write to.
        OutputExists: the destination exists, or lies inside the output.
        CheckpointError: the undo file or the output is damaged.
        VerificationError: there is no undo file, or what would be restored is not the base.
    """
    paths = existing_output(output)
    undo = _open_undo(paths)
    place = _place(paths, undo, destination)
    n_bytes = sum(record.bytes for record in undo.base.files)
    check_places(
        (paths.root,), (place,), is_folder=paths.is_folder, needed_bytes=n_bytes, force=force
    )
    with defer_sigint(), staging(place) as staged:
        for record in undo.base.files:
            _restore(paths, undo, record, staged / place.name)
        with folder_lock(place.parent):
            check_free((place,), is_folder=paths.is_folder, force=force)
            if paths.is_folder:
                put_folder(staged / place.name, place)
            else:
                put_files({staged / place.name: place})
    return Restoration(
        restored=os.path.relpath(place),
        files=undo.base.files,
        left_out=undo.base.left_out,
    )


def _open_undo(paths: OutputPaths) -> Undo:
    found = read_manifest(paths.root)
    if found and found.manifest.output.kind == "lora":
        raise RequestError(
            f"`{printable(paths.root)}` is a LoRA: its base was never changed, there is "
            "nothing to undo"
        )
    if not paths.undo.is_file():
        raise VerificationError(
            f"`{printable(paths.root)}` has no undo file `{printable(paths.undo.name)}`",
            "only what `loco edit` wrote has one; it lies in the folder, or beside the file",
        )
    undo = read_undo(paths.undo)
    if not paths.is_folder and len(undo.base.files) != 1:
        raise CheckpointError(
            f"`{printable(paths.undo)}` lists {len(undo.base.files)} files for a base that is "
            "one file"
        )
    return undo


def _place(paths: OutputPaths, undo: Undo, destination: Path | None) -> Path:
    suffix = "" if paths.is_folder or not undo.base.name.endswith(_SUFFIX) else _SUFFIX
    if destination:
        return destination.with_name(destination.name.removesuffix(suffix) + suffix)
    # the name is as the undo file has it, but never a path
    named = paths.root.with_name(Path(undo.base.name).name)
    if not os.path.lexists(named):
        return named
    return paths.root.with_name(f"{paths.root.name.removesuffix(suffix)}-undone{suffix}")


def _restore(paths: OutputPaths, undo: Undo, record: FileRecord, staged: Path) -> None:
    source = paths.root / record.path if paths.is_folder else paths.root
    target = staged / record.path if paths.is_folder else staged
    kept = undo.whole_file(record.path)
    with new_file(target) as file:
        for chunk in iter_content(kept) if kept else ():
            file.write(chunk)
        if not kept:
            is_edited = bool(undo.tensors(record.path))
            patches = undo.patches(record.path, read_header(source)) if is_edited else ()
            made = write_patched(source, file, patches)
    made = hash_file(target) if kept else made
    if made != Digest(record.bytes, record.sha256):
        raise VerificationError(
            f"undoing `{printable(paths.root)}` does not give back the base's "
            f"`{printable(record.path)}`",
            f"`loco verify {printable(paths.root)}` says what has changed",
        )
