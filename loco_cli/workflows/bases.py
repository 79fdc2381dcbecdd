"""What a manifest says of a base: its files, and the edit that made it, if one did."""

from collections.abc import Mapping

from loco_cli.checkpoint.header import shown
from loco_cli.checkpoint.layout import Checkpoint
from loco_cli.checkpoint.patcher import Digest
from loco_cli.errors import CheckpointError, VerificationError
from loco_cli.manifest import STAMP_KEY, Base, FileRecord, Parent
from loco_cli.workflows.outputs import FoundManifest, output_paths, read_manifest


def base_record(base: Checkpoint, digests: Mapping[str, Digest]) -> Base:
    """Return the record of a base from the digest of each file; raises as `parent_of`."""
    return Base(
        files=file_records(digests),
        parent=parent_of(base, digests),
        name=base.root.resolve().name or "base",
        left_out=base.left_out,
    )


def file_records(digests: Mapping[str, Digest]) -> tuple[FileRecord, ...]:
    """Return the records of files whose digests are given by path, in the order of their paths."""
    return tuple(
        FileRecord(path=path, bytes=one.n_bytes, sha256=one.sha256)
        for path, one in sorted(digests.items())
    )


def parent_of(base: Checkpoint, digests: Mapping[str, Digest]) -> Parent | None:
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
    if found and (found.digest in stamps or not stamps):
        _check_unchanged(base, found, digests)
        return Parent(manifest=found.digest, recipe_sha256=found.manifest.recipe.sha256)
    stamp = min(stamps, default="")
    is_digest = len(stamp) == 64 and not set(stamp) - set("0123456789abcdef")
    return Parent(manifest=stamp) if is_digest else None


def _check_unchanged(base: Checkpoint, found: FoundManifest, digests: Mapping[str, Digest]) -> None:
    paths = output_paths(base.root, base.is_folder)
    written = {paths.now(file.path): file.sha256 for file in found.manifest.output.files}
    for file in base.files:
        if written.get(file.source, digests[file.path].sha256) != digests[file.path].sha256:
            raise CheckpointError(
                f"`{shown(base.root)}` has changed since its manifest was written: "
                f"`{shown(file.path)}` is not the file that it lists",
                f"`loco verify {shown(base.root)}` says what has changed; "
                f"without `{shown(found.path.name)}` it is a base like any other",
            )
