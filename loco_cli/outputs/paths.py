"""The paths of an output, and the checks before it is written."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loco_cli.checkpoint.files import UNDO_NAME, list_files
from loco_cli.checkpoint.layout import Checkpoint
from loco_cli.checkpoint.staging import check_space, check_writable, left_behind
from loco_cli.errors import OutputExists, RequestError, VerificationError, printable
from loco_cli.manifest import Manifest
from loco_cli.models.locate import LocatedModel
from loco_cli.outputs.guards import check_outside_sources, sources_of
from loco_cli.recipe.record import Recipe

_MANIFEST_LIMIT_BYTES = 64 << 20
_SUFFIX = ".safetensors"
_OUTPUT_HINT = "give the folder or the file that `loco edit` wrote"
_FOLDER_NAMES = {
    "manifest": "loco-manifest.json",
    "recipe": "loco-recipe.yaml",
    "undo": UNDO_NAME,
    "report": "loco-report.html",
    "card": "README.md",
}
_FILE_SUFFIXES = {
    "manifest": ".loco.json",
    "recipe": ".loco.yaml",
    "undo": ".undo.safetensors",
    "report": ".loco.html",
}


@dataclass(frozen=True)
class OutputPaths:
    """
    The paths of an output: `OutputPaths.of(Path("edited"), is_folder=True).manifest`.

    `root` is the folder, or the file of weights. `card` is None for a file.
    """

    root: Path
    is_folder: bool
    manifest: Path
    recipe: Path
    undo: Path
    report: Path
    card: Path | None

    @classmethod
    def of(cls, output: Path, is_folder: bool) -> "OutputPaths":
        """
        Return the paths of an output.

        Args:
            output: The folder, or the file with or without `.safetensors`.
            is_folder: The output is a folder.

        Raises:
            RequestError: The output is a folder, but has the name of a file.
        """
        if is_folder:
            if output.name.endswith(_SUFFIX) and not output.is_dir():
                raise RequestError(
                    f"the output `{printable(output)}` is a folder like the base, so "
                    f"its name cannot end in `{_SUFFIX}`"
                )
            paths = {role: output / name for role, name in _FOLDER_NAMES.items()}
            return cls(root=output, is_folder=True, **paths)
        stem = output.name.removesuffix(_SUFFIX)
        paths = {role: output.with_name(stem + suffix) for role, suffix in _FILE_SUFFIXES.items()}
        return cls(root=output.with_name(stem + _SUFFIX), is_folder=False, card=None, **paths)

    @property
    def home(self) -> Path:
        """The folder to which the paths in a manifest are relative."""
        return self.root if self.is_folder else self.root.parent

    @property
    def beside(self) -> tuple[Path, ...]:
        """All files except the weights; the manifest comes last, because it is renamed last."""
        return (
            self.recipe,
            self.undo,
            self.report,
            *((self.card,) if self.card else ()),
            self.manifest,
        )

    @property
    def places(self) -> tuple[Path, ...]:
        """The paths that the output occupies: the folder, or every file."""
        return (self.root,) if self.is_folder else (self.root, *self.beside)

    def now(self, recorded: str) -> Path:
        """
        Return the current path of a file that the manifest lists.

        A file output may be renamed together with the files beside it, so only the suffix counts.
        """
        if self.is_folder:
            return self.root / recorded
        # `root` comes last, because `.undo.safetensors` ends in `.safetensors`
        endings = {**_FILE_SUFFIXES, "root": _SUFFIX}
        role = next((role for role, end in endings.items() if recorded.endswith(end)), "root")
        return Path(getattr(self, role))


@dataclass(frozen=True)
class EditOptions:
    """The options of an output: `EditOptions(output=Path("out"), stamp=True, force=False)`."""

    output: Path | None = None
    stamp: bool = True
    force: bool = False
    command: tuple[str, ...] = ()
    save_recipe: Path | None = None
    form: Literal["checkpoint", "lora"] = "checkpoint"
    created: str | None = None  # ISO 8601 in UTC; None means now

    def paths(self, located: LocatedModel, recipe: Recipe) -> OutputPaths:
        """Return the paths of the output; the default is `./<model>-<recipe>`."""
        output = self.output or _default_output(located.name, recipe.name)
        is_folder = located.checkpoint.is_folder and self.form == "checkpoint"
        return OutputPaths.of(output, is_folder)


@dataclass(frozen=True)
class FoundManifest:
    """A manifest from disk, with the digest that the stamps must have."""

    path: Path
    manifest: Manifest
    digest: str


def _default_output(model: str, recipe: str) -> Path:
    """Return `./<model>-<recipe>`, from the last part of each path or id without suffix."""
    return Path(f"{_plain(model)}-{_plain(recipe)}")


def check_output(base: Checkpoint, paths: OutputPaths, *, needed_bytes: int, force: bool) -> None:
    """Check that an edit of `base` can be written to `paths`, and raise as `check_places` does."""
    check_places(
        sources_of(base),
        paths.places,
        is_folder=paths.is_folder,
        needed_bytes=needed_bytes,
        force=force,
    )


def check_places(
    sources: Iterable[Path],
    places: tuple[Path, ...],
    *,
    is_folder: bool,
    needed_bytes: int,
    force: bool,
) -> None:
    """
    Check that a folder, or several files of one folder, can be written; nothing is written.

    Args:
        sources: The files and folders that are read.
        places: The folder, or all files, to write.
        is_folder: The output is a folder.
        needed_bytes: The size of the output.
        force: Replace an existing output of `loco`.

    Raises:
        OutputExists: A path exists without `force`, has files that `loco` did not write, or is,
            contains or is inside a source.
        RequestError: The parent folder does not exist.
        MachineError: The parent folder cannot be written, or its disk is too full.
    """
    parent = places[0].parent
    if not parent.is_dir():
        raise RequestError(
            f"there is no folder `{printable(parent)}` to write into", "create it first"
        )
    for place in places:
        check_outside_sources(sources, place, is_folder=is_folder)
    check_free(places, is_folder=is_folder, force=force)
    check_writable(parent)
    check_space(parent, needed_bytes)


def check_free(places: tuple[Path, ...], *, is_folder: bool, force: bool) -> None:
    """Raise OutputExists if a path exists and cannot or must not be replaced."""
    for place in places:
        if not os.path.lexists(place):
            continue
        if not force:
            raise OutputExists(
                f"`{printable(place)}` exists",
                "choose another `--output`, or overwrite it with `--force`",
            )
        if place.is_dir() != is_folder:
            kind = "a folder, not a file" if place.is_dir() else "a file, not a folder"
            raise OutputExists(f"`{printable(place)}` is {kind}", "choose another `--output`")
        if is_folder:
            _check_ours(place)


def needed_bytes(base: Checkpoint, edited_bytes: int) -> int:
    """Return the size of an edited copy of `base` with its undo file, which has `edited_bytes`."""
    copied = (entry.n_bytes for entry in base.entries if entry.path not in base.left_out)
    return sum(copied) + edited_bytes


def read_manifest(output: Path) -> FoundManifest | None:
    """
    Read the manifest of an output.

    Args:
        output: The folder or file.

    Returns:
        The manifest with its digest, or None if the output has none.

    Raises:
        VerificationError: The manifest is damaged.
    """
    paths = OutputPaths.of(output, output.is_dir())
    path = (
        paths.manifest
        if paths.manifest.is_file()
        else _interrupted_manifest(paths.root, paths.manifest)
    )
    if path is None:
        return None
    try:
        if path.stat().st_size > _MANIFEST_LIMIT_BYTES:
            raise VerificationError(
                f"manifest `{printable(path)}` has {path.stat().st_size} bytes, "
                f"but loco reads at most {_MANIFEST_LIMIT_BYTES}"
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise VerificationError(
            f"cannot read manifest `{printable(path)}`: {error.strerror}"
        ) from error
    except UnicodeDecodeError as error:
        raise VerificationError(f"manifest `{printable(path)}` is not UTF-8") from error
    manifest, digest = Manifest.parse(text, printable(path))
    return FoundManifest(path, manifest, digest)


def existing_output(output: Path) -> OutputPaths:
    """
    Return the paths of an existing output; the suffix of a file is optional, as in `edit`.

    Raises:
        RequestError: The output does not exist.
    """
    paths = OutputPaths.of(output, output.is_dir())
    if not paths.root.exists():
        old = _interrupted_output(output) or _interrupted_output(paths.root)
        hint = f"a killed program has left it in `{printable(old)}`" if old else _OUTPUT_HINT
        if output.exists():
            raise RequestError(
                f"`{printable(output)}` is neither a folder nor a `.safetensors` file", hint
            )
        raise RequestError(f"there is no output `{printable(output)}`", hint)
    return paths


def require_manifest(output: Path) -> FoundManifest:
    """Read the manifest of an output; raise VerificationError if it has none."""
    found = read_manifest(output)
    if found is None:
        raise VerificationError(
            f"`{printable(output)}` has no manifest",
            "`loco edit` writes it into the folder, or beside the file",
        )
    return found


def _plain(name: str) -> str:
    last = Path(name).name.removesuffix(_SUFFIX)
    last = re.sub(r"\.(yaml|yml)$", "", last)
    return re.sub(r"[^\w.-]+", "-", last).strip("-.") or "model"


def _check_ours(folder: Path) -> None:
    """Raise OutputExists if a folder has a file that `loco` did not write."""
    files = {entry.path for entry in list_files(folder)}
    found = read_manifest(folder)
    if found:
        files -= {record.path for record in found.manifest.output.files} | {found.path.name}
    if files:
        raise OutputExists(
            f"`{printable(folder)}` contains `{printable(min(files))}`, which `loco` did not write",
            "choose another `--output`, or remove the folder yourself",
        )


def _interrupted_manifest(root: Path, manifest: Path) -> Path | None:
    """
    Return the manifest that an interrupted program left in its staging folder, or None.

    A manifest is the first file that is moved away and the last that is renamed, so weights may be
    in place without it. A folder is renamed as a whole and cannot lack it.
    """
    for folder in () if root.is_dir() else left_behind(root):
        for side in (folder / "new", folder / "old"):
            candidate = side / manifest.name
            if candidate.is_file() and not (side / root.name).exists():
                return candidate
    return None


def _interrupted_output(output: Path) -> Path | None:
    """Return the path of an old output that an interrupted program moved away, or None."""
    places = (folder / "old" / output.name for folder in left_behind(output))
    return next((place for place in places if place.exists()), None)
