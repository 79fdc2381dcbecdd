"""
`loco verify`: check an output against its manifest.

An output passes four checks: every file has the recorded hash, every stamp is the digest of the
manifest, the recipe and the tensors match the manifest, and undoing the edit gives the hashes of
the base. The last check proves that nothing else was changed.
"""

from hashlib import sha256
from pathlib import Path

from loco_cli.checkpoint.files import list_files
from loco_cli.checkpoint.header import Header, read_header
from loco_cli.checkpoint.lora import is_lora as is_lora_file
from loco_cli.checkpoint.patcher import Digest, FileRange, Patch, hash_content, hash_patched
from loco_cli.checkpoint.undo import Undo, read_undo
from loco_cli.errors import CheckpointError, VerificationError, printable
from loco_cli.manifest import STAMP_KEY, FileRecord, TensorRecord, Verification
from loco_cli.outputs.paths import FoundManifest, OutputPaths, existing_output, require_manifest


def run(output: Path) -> Verification:
    """
    Check an output against its manifest; nothing is written, and each file is read once.

    Args:
        output: The edited checkpoint or LoRA.

    Returns:
        The verdict, with one sentence for each failure.

    Raises:
        RequestError: `output` does not exist.
        VerificationError: `output` has no manifest.
    """
    paths = existing_output(output)
    try:
        found = require_manifest(paths.root)
    except VerificationError as error:
        if error.hint:  # only a missing manifest has a hint, and leaves nothing to verify
            raise
        return Verification.of([error.message])
    check = _Check(found, paths)
    check.check_file_names()
    check.check_stamps()
    check.check_form()
    check.check_undo_file()
    check.check_contents()
    check.check_records()
    return Verification.of(check.failures)


class _Check:
    """The check of one output, with the failures found so far."""

    def __init__(self, found: FoundManifest, paths: OutputPaths) -> None:
        self.failures: list[str] = []
        self._altered: set[Path] = set()  # files with another hash than the recorded one
        self._digest, self._manifest, self._paths = found.digest, found.manifest, paths
        self._written = {paths.now(f.path): f for f in self._manifest.output.files}
        self._tensors: dict[Path, list[TensorRecord]] = {}
        for tensor in self._manifest.tensors:
            self._tensors.setdefault(self._weights(tensor.file), []).append(tensor)
        self._is_lora = self._manifest.output.kind == "lora"
        self._undo = None if self._is_lora else self._read_undo()

    def check_file_names(self) -> None:
        """Compare the files of the output with those in the manifest."""
        paths = self._paths
        if paths.is_folder:
            existing = {entry.source for entry in list_files(paths.root)} - {paths.manifest}
        else:
            existing = {path for path in (paths.root, *paths.beside[:-1]) if path.exists()}
        for path in sorted(set(self._written) - existing):
            self._fail(path, "is missing")
        for path in sorted(existing - set(self._written)):
            self._fail(path, "is not listed in the manifest")

    def check_stamps(self) -> None:
        """Compare the stamp of every edited file with the digest of the manifest."""
        for path in [self._paths.root] if self._is_lora else self._tensors:
            if not path.is_file():
                continue
            try:
                stamp = read_header(path).metadata.get(STAMP_KEY)
            except CheckpointError as error:
                self.failures.append(error.message)
                continue
            parent = self._manifest.base.parent
            if not self._manifest.output.stamped and stamp == (parent and parent.manifest):
                continue  # an edit without a stamp keeps the header of the base
            if stamp is None:
                self._fail(path, "has lost its stamp")
            elif stamp != self._digest:
                self._fail(
                    path,
                    f"has the stamp {printable(stamp, 12)}, but the digest of the manifest is "
                    f"{self._digest[:12]}…: one of the two was altered",
                )

    def check_form(self) -> None:
        """Check that an output is a LoRA if the manifest calls it one, since LoRAs need no undo."""
        if not self._is_lora or not self._paths.root.is_file():
            return
        try:
            is_lora = not self._paths.is_folder and is_lora_file(self._paths.root)
        except CheckpointError:  # `check_stamps` has reported it
            return
        if not is_lora:
            self._fail(self._paths.root, "is not a LoRA, but the manifest lists it as one")

    def check_records(self) -> None:
        """Compare the recipe and the tensors with their records in the manifest."""
        recipe = self._manifest.recipe
        if sha256(recipe.text.encode("utf-8", "surrogatepass")).hexdigest() != recipe.sha256:
            self._fail(self._paths.manifest, "contains a recipe that does not match its digest")
        for path, tensors in () if self._is_lora else self._tensors.items():
            if path.is_file() and path not in self._altered:
                header = read_header(path)
                for tensor in tensors:
                    self._check_tensor(path, header, tensor)

    def check_undo_file(self) -> None:
        """Check that the undo file has the base and the tensors of the manifest."""
        if self._undo is None:
            return
        path = self._undo.path
        if self._undo.base != self._manifest.base:
            self._fail(path, "belongs to a different base than the manifest")
            return
        listed = {tensor.key: tensor for tensor in self._manifest.tensors}
        for key in sorted(listed.keys() - self._undo.edited_keys()):
            self._fail(path, f"lacks tensor `{printable(key)}`, which the manifest lists")
        for key in sorted(self._undo.edited_keys() - listed.keys()):
            self._fail(
                path, f"contains tensor `{printable(key)}`, which the manifest does not list"
            )

    def check_contents(self) -> None:
        """Check the hash of every file, and the hash that undoing the edit gives it."""
        bases = {} if self._is_lora else {f.path: f for f in self._manifest.base.files}
        for base in bases.values():
            kept = self._undo.whole_file(base.path) if self._undo else None
            if kept and hash_content(kept) != base.sha256:
                name = printable(base.path)
                self._fail(self._paths.undo, f"does not restore the base's `{name}`")
        undone = {self._weights(f.path): f for f in bases.values() if not self._is_kept_whole(f)}
        for path, record in self._written.items():
            if path.is_file():
                try:
                    self._check_file(path, record, undone.pop(path, None))
                except CheckpointError as error:
                    self.failures.append(error.message)
        for path, base in undone.items():
            if path.is_file():
                name = printable(base.path)
                self._fail(path, f"is not listed, so the base's `{name}` cannot be checked")

    def _check_file(self, path: Path, record: FileRecord, base: FileRecord | None) -> None:
        try:
            patches = self._undo_patches(path, base)
        except CheckpointError as error:
            self.failures.append(error.message)
            base, patches = None, ()
        actual, undone = hash_patched(path, patches)
        is_undone = base is None or undone.sha256 == base.sha256
        if actual.sha256 != record.sha256:
            self._altered.add(path)
            self._fail(path, self._alteration(path, record, actual, is_undone))
        elif not is_undone:
            self._fail(path, "does not match the hash of the base after undo")

    def _undo_patches(self, path: Path, base: FileRecord | None) -> tuple[Patch, ...]:
        if base is None or self._undo is None or not self._undo.tensors(base.path):
            return ()
        return self._undo.patches(base.path, read_header(path))

    def _alteration(self, path: Path, record: FileRecord, actual: Digest, is_undone: bool) -> str:
        """Return a sentence about the difference between a file and its record."""
        difference = "was altered after the edit"
        if actual.n_bytes != record.bytes:
            difference = f"has {actual.n_bytes} bytes, but the edit wrote {record.bytes}"
        if path == self._paths.undo and self._undo:
            damaged = [
                tensor.key
                for tensor in self._manifest.tensors
                if tensor.key in self._undo.edited_keys()
                and hash_content(self._undo.range(tensor.key)) != tensor.sha256_before
            ]
            elsewhere = "its header or its metadata"
            return f"{difference}: {_changed_part(damaged, elsewhere)}"
        if path not in self._tensors:
            return difference
        try:
            header = read_header(path)
        except CheckpointError:  # `check_stamps` has reported it
            return difference
        damaged = [
            tensor.name
            for tensor in self._tensors[path]
            if tensor.name not in header.tensors
            or hash_content(FileRange(path, *header.span(tensor.name))) != tensor.sha256_after
        ]
        # undo replaces only the header and the edited tensors
        elsewhere = "its header" if is_undone else "a tensor that was not edited"
        return f"{difference}: {_changed_part(damaged, elsewhere)}"

    def _check_tensor(self, path: Path, header: Header, tensor: TensorRecord) -> None:
        """Compare one tensor of an unaltered file with its record."""
        entry = header.tensors.get(tensor.name)
        if entry is None or (entry.dtype, entry.shape) != (tensor.dtype, tensor.shape):
            is_true = False
        else:
            after = hash_content(FileRange(path, *header.span(tensor.name)))
            is_true = after == tensor.sha256_after
        key = tensor.key
        if is_true and self._undo and key in self._undo.header.tensors:
            is_true = hash_content(self._undo.range(key)) == tensor.sha256_before
        if not is_true and self._paths.undo not in self._altered:
            name = printable(tensor.name)
            self._fail(self._paths.manifest, f"has a wrong record of tensor `{name}`")

    def _read_undo(self) -> Undo | None:
        if not self._paths.undo.is_file():
            return None  # `check_file_names` reports it
        try:
            return read_undo(self._paths.undo)
        except CheckpointError as error:
            self.failures.append(error.message)
            return None

    def _is_kept_whole(self, base: FileRecord) -> bool:
        return bool(self._undo and self._undo.whole_file(base.path))

    def _weights(self, base_file: str) -> Path:
        """Return the path of the output file that corresponds to a file of the base."""
        return self._paths.root / base_file if self._paths.is_folder else self._paths.root

    def _fail(self, path: Path, fault: str) -> None:
        name = printable(path.relative_to(self._paths.home).as_posix())
        self.failures.append(f"`{name}` {fault}")


def _changed_part(damaged: list[str], elsewhere: str) -> str:
    if not damaged:
        return f"the change is in {elsewhere}"
    first, n_more = f"tensor `{printable(damaged[0])}`", len(damaged) - 1
    return f"{first} and {n_more} more have changed" if n_more else f"{first} has changed"
