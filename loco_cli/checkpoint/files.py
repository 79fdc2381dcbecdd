"""The files of a checkpoint: their paths, headers and shard indexes."""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from loco_cli.checkpoint.header import HEADER_LIMIT_BYTES, Header, parse_strict_json, read_header
from loco_cli.checkpoint.pickles import PICKLE_HINT, read_pickle
from loco_cli.errors import CheckpointError, printable
from loco_cli.families import registry

MODEL_HINT = "give a diffusers folder or a single `.safetensors` file"
UNDO_NAME = "loco-undo.safetensors"  # the undo file of an output folder
_WEIGHT_STEMS = (
    "diffusion_pytorch_model",
    "pytorch_model",
    "model",
)  # `training_args.bin` has none of these stems

# version control and download tools keep these folders beside a model
_TOOL_FOLDERS = frozenset({".git", ".cache"})
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_OTHER_WEIGHTS = (*_PICKLES, ".msgpack", ".h5", ".onnx", ".onnx_data", ".pb", ".gguf")
_SAFETENSORS = (".safetensors", ".sft")
_BACKUP = re.compile(r"\.(safetensors|sft|bin|ckpt|pth?)(\.(bak|backup|old|orig)|~)$")
_OTHER_INDEX = re.compile(r"\.(bin|msgpack|h5)\.index(\.[\w-]+)?\.json$")
# variants are `x.safetensors.index.fp16.json` today and were `x.safetensors.fp16.index.json`
_INDEX = re.compile(r"\.safetensors(\.[\w-]+)?\.index\.json$|\.safetensors\.index\.[\w-]+\.json$")


@dataclass(frozen=True)
class Entry:
    """
    One file: `Entry("unet/config.json", Path("/models/sd15/unet/config.json"), 743)`.

    `path` is relative to the folder and uses `/`. `source` is the file to read, behind any link.
    """

    path: str
    source: Path
    n_bytes: int

    def __post_init__(self) -> None:
        # a path in a manifest must name the same file on every system
        if "\\" in self.path or self.path[1:2] == ":":
            raise CheckpointError(
                f"`{printable(self.source)}` has a name that is a different path on Windows",
                "rename it",
            )

    @property
    def folder(self) -> str:
        """Return the folder part of `path`, empty at the root."""
        return self.path.rpartition("/")[0]


@dataclass(frozen=True)
class CheckpointFile:
    """
    One file of tensors: `CheckpointFile("unet/a.safetensors", Path("/m/unet/..."), Header(...))`.
    """

    path: str
    source: Path
    header: Header


def list_files(root: Path) -> tuple[Entry, ...]:
    """
    List every file under `root`, sorted by path; links are followed.

    Raises:
        CheckpointError: A link is broken or forms a cycle, a file is not a regular file, a name is
            not UTF-8, or a folder cannot be read.
    """
    return tuple(sorted(_walk(root, "", ()), key=lambda entry: entry.path))


def is_pickle(path: Path) -> bool:
    """Return True if the file has the suffix of a pickle."""
    return path.suffix.lower() in _PICKLES


def is_weights(path: Path) -> bool:
    """Return True if the file has the suffix of weights in a format other than safetensors."""
    return path.name.lower().endswith(_OTHER_WEIGHTS)


def weights_left_out(files: tuple[Entry, ...]) -> tuple[str, ...]:
    """
    Return the paths of weights that a copy leaves out: pickles, Flax weights and backups.

    They still hold the edited concept, and a safetensors file replaces them. A component without a
    safetensors file keeps its pickle. The root holds whole models only, so it keeps none.
    """
    with_safetensors = {
        file.folder for file in files if file.path.lower().endswith(_SAFETENSORS)
    } | {""}
    return tuple(
        file.path
        for file in files
        if file.folder in with_safetensors
        and (
            is_weights(file.source)
            or _OTHER_INDEX.search(file.path)
            or _BACKUP.search(file.path.lower())
        )
    )


def _read_indexes(files: tuple[Entry, ...]) -> dict[str, dict[str, str]]:
    """
    Return the shard indexes: index path → tensor name → path of the file that holds it.

    Raises:
        CheckpointError: An index is damaged, or names a file that is missing or outside its folder.
    """
    paths = {file.path for file in files}
    return {file.path: _read_index(file, paths) for file in files if _INDEX.search(file.path)}


def single_entry(path: Path) -> Entry:
    """Return the entry of a checkpoint that is one file; raise CheckpointError if it is missing."""
    if not path.is_file():
        raise CheckpointError(f"`{printable(path)}` is neither a file nor a folder", MODEL_HINT)
    return Entry(path.name, path, path.stat().st_size)


def read_files(
    root: Path, entries: tuple[Entry, ...], *, with_pickles: bool
) -> tuple[CheckpointFile, ...]:
    """
    Read the headers of a checkpoint's tensor files.

    Args:
        root: The folder, or the single file.
        entries: The files of the folder, or the entry of the single file.
        with_pickles: Read a pickle that is the whole checkpoint, or the only copy of a component.

    Returns:
        The files that hold tensors.

    Raises:
        CheckpointError: There is no such file, a file is damaged, an index is wrong, or the model
            is a pickle and `with_pickles` is False.
    """
    if not root.is_dir():
        return (_read_single(entries[0], with_pickles),)
    if not entries:
        raise CheckpointError(f"folder `{printable(root)}` is empty", MODEL_HINT)
    files = tuple(
        CheckpointFile(entry.path, entry.source, read_header(entry.source))
        for entry in entries
        if entry.path.lower().endswith(_SAFETENSORS) and entry.path != UNDO_NAME
    )
    if with_pickles:
        files += tuple(_read_single(entry, with_pickles) for entry in _pickled_parts(entries))
    _check_network(root, entries, files)
    if not files:
        raise CheckpointError(
            f"folder `{printable(root)}` is not a model: it has no `.safetensors` file", MODEL_HINT
        )
    _check_indexes(entries, files)
    return files


def _walk(folder: Path, prefix: str, ancestors: tuple[Path, ...]) -> Iterator[Entry]:
    real = folder.resolve()
    if real in ancestors:
        raise CheckpointError(f"link `{printable(folder)}` leads back to a folder that contains it")
    try:
        with os.scandir(folder) as scan:
            names = sorted(entry.name for entry in scan)
    except OSError as error:
        raise CheckpointError(
            f"cannot read folder `{printable(folder)}`: {error.strerror}"
        ) from error
    for name in names:
        source = folder / name
        try:
            os.fsencode(name).decode()
            status = source.stat()
        except UnicodeDecodeError as error:
            raise CheckpointError(f"the name of `{printable(source)}` is not UTF-8") from error
        except OSError as error:
            what = "link" if source.is_symlink() else "file"
            raise CheckpointError(
                f"cannot follow {what} `{printable(source)}`: {error.strerror}"
            ) from error
        if stat.S_ISREG(status.st_mode):
            yield Entry(prefix + name, source, status.st_size)
        elif not stat.S_ISDIR(status.st_mode):
            raise CheckpointError(f"`{printable(source)}` is neither a file nor a folder")
        elif name not in _TOOL_FOLDERS:
            yield from _walk(source, f"{prefix}{name}/", (*ancestors, real))


def _read_index(index: Entry, paths: set[str]) -> dict[str, str]:
    where = f"index `{printable(index.source)}`"
    if index.n_bytes > HEADER_LIMIT_BYTES:
        raise CheckpointError(
            f"{where} has {index.n_bytes} bytes, but loco reads at most {HEADER_LIMIT_BYTES}"
        )
    try:
        tree = parse_strict_json(index.source.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"cannot read {where}: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{where} is damaged: {printable(error)}") from error
    weight_map = tree.get("weight_map") if isinstance(tree, dict) else None
    if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
        raise CheckpointError(f"{where} is damaged: `weight_map` must name a file for each tensor")
    for name in sorted(set(weight_map.values())):
        if (
            PurePosixPath(name).is_absolute()
            or ".." in name.split("/")
            or "\\" in name
            or ":" in name
        ):
            raise CheckpointError(f"{where} names `{printable(name)}`, which is outside its folder")
        if _beside(index, name) not in paths:
            raise CheckpointError(f"{where} names `{printable(name)}`, which does not exist")
    return {tensor: _beside(index, name) for tensor, name in weight_map.items()}


def _beside(index: Entry, name: str) -> str:
    return (PurePosixPath(index.folder) / name).as_posix()


def _read_single(entry: Entry, with_pickles: bool) -> CheckpointFile:
    if not is_pickle(entry.source):
        return CheckpointFile(entry.path, entry.source, read_header(entry.source))
    if not with_pickles:
        raise CheckpointError(
            f"`{printable(entry.source)}` is a pickle, which can run code when it is loaded",
            PICKLE_HINT,
        )
    return CheckpointFile(entry.path, entry.source, read_pickle(entry.source))


def _pickled_parts(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Return the pickles of components without other weights."""
    left_out, parts = weights_left_out(entries), registry.catalog().components
    return tuple(
        entry
        for entry in entries
        if entry.folder in parts
        and is_pickle(entry.source)
        and entry.source.name.startswith(_WEIGHT_STEMS)
        and entry.path not in left_out
    )


def _check_network(
    root: Path, entries: tuple[Entry, ...], files: tuple[CheckpointFile, ...]
) -> None:
    """Raise CheckpointError if the network can only be in a pickle."""
    is_pickled = any(is_pickle(entry.source) for entry in entries)
    folders = {file.path.rpartition("/")[0] for file in files}
    networks = {network.component for network in registry.catalog().networks}
    if is_pickled and not {"", *networks} & folders:
        raise CheckpointError(
            f"`{printable(root)}` has its UNet only as a pickle, which can run code when it is "
            "loaded",
            PICKLE_HINT,
        )


def _check_indexes(entries: tuple[Entry, ...], files: tuple[CheckpointFile, ...]) -> None:
    headers = {file.path: file.header for file in files}
    for index, holders in _read_indexes(entries).items():
        for tensor, file in holders.items():
            if file not in headers or tensor not in headers[file].tensors:
                raise CheckpointError(
                    f"index `{printable(index)}` puts tensor `{printable(tensor)}` in "
                    f"`{printable(file)}`, "
                    "which does not hold it"
                )
