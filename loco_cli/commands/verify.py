"""
Hold an output against its manifest.

Four things must be so: every file is the one that was written, every stamp is the digest of the
manifest, what the manifest says of recipe and tensors is what is there, and undoing gives the
hashes of the base, so that nothing else has changed.
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
    Return whether the output holds, and every way in which it does not, as sentences.

    Nothing is written, and each file is read once.

    Raises:
        RequestError: there is nothing at `output`.
        VerificationError: it has no manifest.
    """
    paths = existing_output(output)
    try:
        found = require_manifest(paths.root)
    except VerificationError as error:
        if error.hint:  # there is no manifest, so there is nothing to verify
            raise
        return Verification.of([error.message])
    check = _Check(found, paths)
    check.names()
    check.stamps()
    check.kind()
    check.undo_fits()
    check.contents()
    check.facts()
    return Verification.of(check.failures)


class _Check:
    """One output under the eye, and what was found wrong with it so far."""

    def __init__(self, found: FoundManifest, paths: OutputPaths) -> None:
        self.failures: list[str] = []
        self._doubted: set[Path] = set()  # not as they were written
        self._digest, self._manifest, self._paths = found.digest, found.manifest, paths
        self._written = {paths.now(f.path): f for f in self._manifest.output.files}
        self._tensors: dict[Path, list[TensorRecord]] = {}
        for tensor in self._manifest.tensors:
            self._tensors.setdefault(self._weights(tensor.file), []).append(tensor)
        self._is_lora = self._manifest.output.kind == "lora"
        self._undo = None if self._is_lora else self._read_undo()

    def names(self) -> None:
        """Hold the files that are there against those that were written."""
        paths = self._paths
        if paths.is_folder:
            there = {entry.source for entry in list_files(paths.root)} - {paths.manifest}
        else:
            there = {path for path in (paths.root, *paths.beside[:-1]) if path.exists()}
        for path in sorted(set(self._written) - there):
            self._fail(path, "is missing")
        for path in sorted(there - set(self._written)):
            self._fail(path, "is there, but the manifest does not list it")

    def stamps(self) -> None:
        """Hold the stamp of every edited file against the manifest's digest."""
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
                continue  # the header is the base's
            if stamp is None:
                self._fail(path, "has lost its stamp")
            elif stamp != self._digest:
                self._fail(
                    path,
                    f"is stamped with {printable(stamp, 12)}, the manifest's digest is "
                    f"{self._digest[:12]}…: one of the two was altered",
                )

    def kind(self) -> None:
        """Hold what was written against what the manifest calls it: a LoRA has nothing to undo."""
        if not self._is_lora or not self._paths.root.is_file():
            return
        try:
            is_lora = not self._paths.is_folder and is_lora_file(self._paths.root)
        except CheckpointError:  # `stamps` tells
            return
        if not is_lora:
            self._fail(self._paths.root, "is no LoRA, which the manifest says it is")

    def facts(self) -> None:
        """Hold what the manifest says of its recipe and its tensors against them."""
        recipe = self._manifest.recipe
        if sha256(recipe.text.encode("utf-8", "surrogatepass")).hexdigest() != recipe.sha256:
            self._fail(self._paths.manifest, "holds another recipe than its digest is of")
        for path, tensors in () if self._is_lora else self._tensors.items():
            if path.is_file() and path not in self._doubted:
                header = read_header(path)
                for tensor in tensors:
                    self._check_tensor(path, header, tensor)

    def undo_fits(self) -> None:
        """Hold the undo file against the manifest: the same base, the same tensors."""
        if self._undo is None:
            return
        path = self._undo.path
        if self._undo.base != self._manifest.base:
            self._fail(path, "belongs to another base than the manifest's")
            return
        listed = {tensor.key: tensor for tensor in self._manifest.tensors}
        for key in sorted(listed.keys() - self._undo.edited_keys()):
            self._fail(path, f"lacks tensor `{printable(key)}`, which the manifest lists")
        for key in sorted(self._undo.edited_keys() - listed.keys()):
            self._fail(path, f"holds tensor `{printable(key)}`, which the manifest does not list")

    def contents(self) -> None:
        """Hold every file against what was written, and against what it is undone to."""
        bases = {} if self._is_lora else {f.path: f for f in self._manifest.base.files}
        for base in bases.values():
            kept = self._undo.whole_file(base.path) if self._undo else None
            if kept and hash_content(kept) != base.sha256:
                self._fail(
                    self._paths.undo, f"does not give back the base's `{printable(base.path)}`"
                )
        undone = {self._weights(f.path): f for f in bases.values() if not self._is_kept_whole(f)}
        for path, record in self._written.items():
            if path.is_file():
                try:
                    self._check_file(path, record, undone.pop(path, None))
                except CheckpointError as error:
                    self.failures.append(error.message)
        for path, base in undone.items():
            if path.is_file():
                self._fail(
                    path, f"is not listed, so the base's `{printable(base.path)}` is unproven"
                )

    def _check_file(self, path: Path, record: FileRecord, base: FileRecord | None) -> None:
        try:
            patches = self._undo_patches(path, base)
        except CheckpointError as error:
            self.failures.append(error.message)
            base, patches = None, ()
        there, undone = hash_patched(path, patches)
        is_undone = base is None or undone.sha256 == base.sha256
        if there.sha256 != record.sha256:
            self._doubted.add(path)
            self._fail(path, self._what_is_wrong(path, record, there, is_undone))
        elif not is_undone:
            self._fail(path, "does not give back the base's hash when it is undone")

    def _undo_patches(self, path: Path, base: FileRecord | None) -> tuple[Patch, ...]:
        if base is None or self._undo is None or not self._undo.tensors(base.path):
            return ()
        return self._undo.patches(base.path, read_header(path))

    def _what_is_wrong(self, path: Path, record: FileRecord, there: Digest, is_undone: bool) -> str:
        what = "is not the file that was written"
        if there.n_bytes != record.bytes:
            what = f"has {there.n_bytes} bytes, {record.bytes} were written"
        if path == self._paths.undo and self._undo:
            damaged = [
                tensor.key
                for tensor in self._manifest.tensors
                if tensor.key in self._undo.edited_keys()
                and hash_content(self._undo.range(tensor.key)) != tensor.sha256_before
            ]
            elsewhere = "its header, or in what it keeps beside the tensors"
            return f"{what}: {_changed(damaged, elsewhere)}"
        if path not in self._tensors:
            return what
        try:
            header = read_header(path)
        except CheckpointError:  # `stamps` tells
            return what
        damaged = [
            tensor.name
            for tensor in self._tensors[path]
            if tensor.name not in header.tensors
            or hash_content(FileRange(path, *header.span(tensor.name))) != tensor.sha256_after
        ]
        # undoing replaces the header and the edited tensors, and nothing else
        elsewhere = "its header" if is_undone else "a tensor that the edit left alone"
        return f"{what}: {_changed(damaged, elsewhere)}"

    def _check_tensor(self, path: Path, header: Header, tensor: TensorRecord) -> None:
        """Hold one tensor of a file that is as it was written against its entry."""
        there = header.tensors.get(tensor.name)
        if there is None or (there.dtype, there.shape) != (tensor.dtype, tensor.shape):
            is_so = False
        else:
            is_so = hash_content(FileRange(path, *header.span(tensor.name))) == tensor.sha256_after
        key = tensor.key
        if is_so and self._undo and key in self._undo.header.tensors:
            is_so = hash_content(self._undo.range(key)) == tensor.sha256_before
        if not is_so and self._paths.undo not in self._doubted:
            what = f"does not tell the truth of tensor `{printable(tensor.name)}`"
            self._fail(self._paths.manifest, what)

    def _read_undo(self) -> Undo | None:
        if not self._paths.undo.is_file():
            return None  # `names` tells
        try:
            return read_undo(self._paths.undo)
        except CheckpointError as error:
            self.failures.append(error.message)
            return None

    def _is_kept_whole(self, base: FileRecord) -> bool:
        return bool(self._undo and self._undo.whole_file(base.path))

    def _weights(self, base_file: str) -> Path:
        """Return the output's file that stands for one of the base's."""
        return self._paths.root / base_file if self._paths.is_folder else self._paths.root

    def _fail(self, path: Path, what: str) -> None:
        self.failures.append(f"`{printable(path.relative_to(self._paths.home).as_posix())}` {what}")


def _changed(damaged: list[str], elsewhere: str) -> str:
    if not damaged:
        return f"the change is in {elsewhere}"
    rest = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
    return f"tensor `{printable(damaged[0])}`{rest} has changed"
