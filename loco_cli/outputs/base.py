"""The base in a manifest: its files, and its parent if it is an edit itself."""

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
    """
    Return the record of a base for a manifest.

    Args:
        base: The checkpoint that was edited.
        digests: The digest of each of its files, by path.

    Raises:
        CheckpointError: A weight file differs from the manifest of the base.
    """
    return Base(
        files=file_records(digests),
        parent=_parent_of(base, digests),
        name=base.root.resolve().name or "base",
        left_out=base.left_out,
        carried=base.carried,
    )


def file_records(digests: Mapping[str, Digest]) -> tuple[FileRecord, ...]:
    """Return the records of files from their digests by path, sorted by path."""
    return tuple(
        FileRecord(path=path, bytes=digest.n_bytes, sha256=digest.sha256)
        for path, digest in sorted(digests.items())
    )


def _parent_of(base: Checkpoint, digests: Mapping[str, Digest]) -> Parent | None:
    """
    Return the edit that made the base, from its manifest, or from its stamp if it has no manifest.

    Raises:
        CheckpointError: A weight file differs from the manifest of the base.
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
                f"the manifest lists another hash for `{printable(file.path)}`",
                f"run `loco verify {printable(base.root)}` to list the changes; "
                f"remove `{printable(found.path.name)}` to use the model as it is",
            )


def is_base(manifest: Manifest, other: Checkpoint) -> bool | None:
    """
    Return True if the weight files of `other` are the base of a manifest.

    Return None if `other` has other files, since no comparison is possible then.
    """
    listed = {file.path: file for file in manifest.base.files}
    if not other.is_folder and len(listed) == 1:  # the name of a single file does not matter
        listed = dict(zip([other.files[0].path], listed.values(), strict=True))
    if any(file.path not in listed for file in other.files):
        return None
    if any(file.source.stat().st_size != listed[file.path].bytes for file in other.files):
        return False
    return all(hash_file(file.source).sha256 == listed[file.path].sha256 for file in other.files)


def check_made_from(lora: Path, base: Checkpoint) -> None:
    """
    Check the tensors of a base against the manifest beside a LoRA.

    A LoRA without a manifest passes, and so does a base in another layout: names and shapes of the
    tensors must suffice then.

    Raises:
        RequestError: The manifest lists other tensors than the base has.
    """
    found = read_manifest(lora)
    if found is None:
        return
    by_name = {name: file for file in base.files for name in file.header.tensors}
    for tensor in found.manifest.tensors:
        file = by_name.get(tensor.name)
        if file is None or (base.is_folder and file.path != tensor.file):
            continue
        content = read_range(file.source, *file.header.span(tensor.name))
        if sha256(content).hexdigest() != tensor.sha256_before:
            raise RequestError(
                f"LoRA `{printable(lora)}` was made from another base: tensor "
                f"`{printable(tensor.name)}` of `{printable(base.root)}` differs from its manifest",
                "give the base that it was made from with `--base`; "
                f"remove `{printable(found.path.name)}` to apply it to any base that it fits",
            )
