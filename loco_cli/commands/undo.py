"""`loco undo`: restore a base from its edited copy, byte for byte."""

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
    Restore the base of an edited checkpoint.

    The base appears at its destination only after all its hashes match.

    Args:
        output: The edited checkpoint, a folder or a file.
        destination: The path of the restored base. Without it, the base is written beside the
            output: under its own name if that is free, otherwise as `<output>-undone`.
        force: Overwrite an existing destination.

    Raises:
        RequestError: `output` does not exist or is a LoRA, or the destination cannot be written.
        OutputExists: The destination exists, or is inside the output.
        CheckpointError: The undo file or the output is damaged.
        VerificationError: There is no undo file, or the hashes of the result do not match.
    """
    paths = existing_output(output)
    undo = _open_undo(paths)
    target = _target_path(paths, undo, destination)
    n_bytes = sum(record.bytes for record in undo.base.files)
    check_places(
        (paths.root,), (target,), is_folder=paths.is_folder, needed_bytes=n_bytes, force=force
    )
    with defer_sigint(), staging(target) as staged:
        for record in undo.base.files:
            _restore(paths, undo, record, staged / target.name)
        with folder_lock(target.parent):
            check_free((target,), is_folder=paths.is_folder, force=force)
            if paths.is_folder:
                put_folder(staged / target.name, target)
            else:
                put_files({staged / target.name: target})
    return Restoration(
        restored=os.path.relpath(target),
        files=undo.base.files,
        left_out=undo.base.left_out,
    )


def _open_undo(paths: OutputPaths) -> Undo:
    found = read_manifest(paths.root)
    if found and found.manifest.output.kind == "lora":
        raise RequestError(
            f"`{printable(paths.root)}` is a LoRA: it did not change its base, so there is "
            "nothing to undo"
        )
    if not paths.undo.is_file():
        raise VerificationError(
            f"`{printable(paths.root)}` has no undo file `{printable(paths.undo.name)}`",
            "`loco edit` writes it into the output folder, or beside an output file",
        )
    undo = read_undo(paths.undo)
    if not paths.is_folder and len(undo.base.files) != 1:
        raise CheckpointError(
            f"`{printable(paths.undo)}` lists {len(undo.base.files)} files, but the base is one "
            "file"
        )
    return undo


def _target_path(paths: OutputPaths, undo: Undo, destination: Path | None) -> Path:
    suffix = "" if paths.is_folder or not undo.base.name.endswith(_SUFFIX) else _SUFFIX
    if destination:
        return destination.with_name(destination.name.removesuffix(suffix) + suffix)
    # the undo file could be malicious, so folders in the name are dropped
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
            f"cannot restore `{printable(record.path)}`: the hash of the result differs "
            "from the hash of the base",
            f"`loco verify {printable(paths.root)}` lists the changes",
        )
