"""The files of a checkpoint that hold its tensors, each with its header."""

from dataclasses import dataclass
from pathlib import Path

from loco_cli.checkpoint.header import Header, read_header
from loco_cli.checkpoint.pickles import PICKLE_HINT, read_pickle
from loco_cli.checkpoint.tree import (
    Entry,
    is_pickle,
    is_safetensors,
    read_indexes,
    weights_left_out,
)
from loco_cli.errors import CheckpointError, printable

MODEL_HINT = "give a diffusers folder or a single `.safetensors` file"
UNDO_NAME = "loco-undo.safetensors"  # in a folder that is an output; no weights of the model
PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
_STEMS = ("diffusion_pytorch_model", "pytorch_model", "model")  # and not `training_args.bin`


@dataclass(frozen=True)
class CheckpointFile:
    """
    One file of tensors: `CheckpointFile("unet/a.safetensors", Path("/m/unet/..."), Header(...))`.
    """

    path: str
    source: Path
    header: Header


def single_entry(path: Path) -> Entry:
    """Return the entry of a checkpoint that is one file; raises CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"`{printable(path)}` is neither a file nor a folder", MODEL_HINT)
    return Entry(path.name, path, path.stat().st_size)


def read_files(
    root: Path, entries: tuple[Entry, ...], *, with_pickles: bool
) -> tuple[CheckpointFile, ...]:
    """
    Return the files of tensors among `entries`, those of a folder or the one that `root` is.

    Pickles are read where that is wanted: one that is the whole checkpoint, or a part of a folder
    that is nowhere else.

    Raises:
        CheckpointError: there are none, one is damaged, an index lies, or there is a pickle.
    """
    if not root.is_dir():
        return (_read_single(entries[0], with_pickles),)
    if not entries:
        raise CheckpointError(f"folder `{printable(root)}` is empty", MODEL_HINT)
    files = tuple(
        CheckpointFile(entry.path, entry.source, read_header(entry.source))
        for entry in entries
        if is_safetensors(entry.path) and entry.path != UNDO_NAME
    )
    if with_pickles:
        files += tuple(_read_single(entry, with_pickles) for entry in _pickled_parts(entries))
    _check_unet(root, entries, files)
    if not files:
        raise CheckpointError(
            f"folder `{printable(root)}` is no model: no `.safetensors` file is in it", MODEL_HINT
        )
    _check_indexes(entries, files)
    return files


def _read_single(entry: Entry, with_pickles: bool) -> CheckpointFile:
    if not is_pickle(entry.source):
        return CheckpointFile(entry.path, entry.source, read_header(entry.source))
    if not with_pickles:
        raise CheckpointError(
            f"`{printable(entry.source)}` is a pickle, which may run code when it is read",
            PICKLE_HINT,
        )
    return CheckpointFile(entry.path, entry.source, read_pickle(entry.source))


def _pickled_parts(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Return the pickles of components that have no other weights."""
    left_out = weights_left_out(entries)
    return tuple(
        entry
        for entry in entries
        if entry.folder in PARTS
        and is_pickle(entry.source)
        and entry.source.name.startswith(_STEMS)
        and entry.path not in left_out
    )


def _check_unet(root: Path, entries: tuple[Entry, ...], files: tuple[CheckpointFile, ...]) -> None:
    """Raise CheckpointError where there are pickles, and no file that could hold the UNet."""
    is_pickled = any(is_pickle(entry.source) for entry in entries)
    folders = {file.path.rpartition("/")[0] for file in files}
    if is_pickled and not {"", "unet"} & folders:
        raise CheckpointError(
            f"`{printable(root)}` has its UNet in a pickle only, which may run code when it "
            "is read",
            PICKLE_HINT,
        )


def _check_indexes(entries: tuple[Entry, ...], files: tuple[CheckpointFile, ...]) -> None:
    headers = {file.path: file.header for file in files}
    for index, holders in read_indexes(entries).items():
        for tensor, file in holders.items():
            if file not in headers or tensor not in headers[file].tensors:
                raise CheckpointError(
                    f"index `{printable(index)}` puts tensor `{printable(tensor)}` in "
                    f"`{printable(file)}`, "
                    "which does not hold it"
                )
