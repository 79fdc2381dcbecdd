"""The base in a manifest: its files, and the edit that made it, if one did."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from loco_cli.checkpoint.layout import Checkpoint
from loco_cli.checkpoint.patcher import Digest, hash_file
from loco_cli.checkpoint.reader import read_range
from loco_cli.errors import CheckpointError, RequestError, VerificationError, printable
from loco_cli.manifest import STAMP_KEY, Base, FileRecord, Manifest, Parent
from loco_cli.outputs.paths import FoundManifest, OutputPaths, read_manifest


def base_record(base: Checkpoint, digests: Mapping[str, Digest]) -> Base:
    """Return the record of a base from each file's digest; raises as `_parent_of` does."""
    return Base(
        files=file_records(digests),
        parent=_parent_of(base, digests),
        name=base.root.resolve().name or "base",
        left_out=base.left_out,
        carried=base.carried,
    )


def file_records(digests: Mapping[str, Digest]) -> tuple[FileRecord, ...]:
    """Return the records of files whose digests are given by path, in the order of their paths."""
    return tuple(
        FileRecord(path=path, bytes=one.n_bytes, sha256=one.sha256)
        for path, one in sorted(digests.items())
    )


def _parent_of(base: Checkpoint, digests: Mapping[str, Digest]) -> Parent | None:
    """
    Return the edit that made the base: by its manifest, or by the stamp alone if that is all.

    Raises:
        CheckpointError: the base has a manifest, but one of its weight files, whose digests are
            given by path, is not the one that the manifest lists.
    """
    stamps = {
        file.header.metadata[STAMP_KEY] for file in base.files if STAMP_KEY in file.header.metadata
    }
    try:
        found = read_manifest(base.root)
    except VerificationError:
        found = None
    if found:
        _check_unchanged(base, found, digests)
        return Parent(manifest=found.digest, recipe_sha256=found.manifest.recipe.sha256)
    stamp = min(stamps, default="")
    is_digest = len(stamp) == 64 and not set(stamp) - set("0123456789abcdef")
    return Parent(manifest=stamp) if is_digest else None


def _check_unchanged(base: Checkpoint, found: FoundManifest, digests: Mapping[str, Digest]) -> None:
    paths = OutputPaths.of(base.root, base.is_folder)
    written = {paths.now(file.path): file.sha256 for file in found.manifest.output.files}
    for file in base.files:
        if written.get(file.source, digests[file.path].sha256) != digests[file.path].sha256:
            raise CheckpointError(
                f"`{printable(base.root)}` has changed since its manifest was written: "
                f"`{printable(file.path)}` is not the file that it lists",
                f"`loco verify {printable(base.root)}` says what has changed; "
                f"without `{printable(found.path.name)}` it is a base like any other",
            )


def is_base(manifest: Manifest, other: Checkpoint) -> bool | None:
    """
    True if the weights of `other` are those that a manifest was written for, file by file.

    None where they lie in other files, so that nothing can be said.
    """
    listed = {file.path: file for file in manifest.base.files}
    if not other.is_folder and len(listed) == 1:  # a single file goes by whatever name
        listed = dict(zip([other.files[0].path], listed.values(), strict=True))
    if any(file.path not in listed for file in other.files):
        return None
    if any(file.source.stat().st_size != listed[file.path].bytes for file in other.files):
        return False
    return all(hash_file(file.source).sha256 == listed[file.path].sha256 for file in other.files)


def check_made_from(lora: Path, base: Checkpoint) -> None:
    """
    Raise RequestError where the manifest beside a LoRA lists other tensors than the base has.

    A LoRA without manifest, and a base in another layout than the one it was made from, pass: the
    names and shapes of its tensors have to be enough.
    """
    found = read_manifest(lora)
    if found is None:
        return
    of_name = {name: file for file in base.files for name in file.header.tensors}
    for tensor in found.manifest.tensors:
        file = of_name.get(tensor.name)
        if file is None or (base.is_folder and file.path != tensor.file):
            continue
        content = read_range(file.source, *file.header.span(tensor.name))
        if sha256(content).hexdigest() != tensor.sha256_before:
            raise RequestError(
                f"LoRA `{printable(lora)}` was made from another base: tensor "
                f"`{printable(tensor.name)}` "
                f"of `{printable(base.root)}` is not the one that its manifest lists",
                "give the base that it was made from with `--base`; "
                f"without `{printable(found.path.name)}` any base that it fits is taken",
            )
