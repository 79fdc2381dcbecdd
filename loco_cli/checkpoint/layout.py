"""
Where each tensor of a checkpoint lives, recognised from headers alone.

A checkpoint is a diffusers folder (with shards and variants), a bare UNet, or a single file in the
original layout. What it is never depends on its name, and an unknown one is refused.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from loco_cli.checkpoint.family import family_of
from loco_cli.checkpoint.header import ITEM_BITS, Header, TensorInfo, read_header, shown
from loco_cli.checkpoint.names import (
    EMA_COMPONENT,
    EMA_PREFIX,
    OTHER_COMPONENT,
    Place,
    component_places,
    single_file_places,
)
from loco_cli.checkpoint.slot import TensorSlot
from loco_cli.checkpoint.tree import (
    Entry,
    is_pickle,
    is_safetensors,
    list_files,
    read_indexes,
    weights_left_out,
)
from loco_cli.errors import CheckpointError, RequestError
from loco_cli.models.spec import Family

UNDO_NAME = "loco-undo.safetensors"  # in a folder that is an output; no weights of the model
EDITABLE_DTYPES = ("F32", "F16", "BF16")
_EDITED = ("unet", "text_encoder")  # with the EMA copy and the second encoder
_SHARD = re.compile(r"-\d{5}-of-\d{5}")
_EMA_KEY = re.compile(r"attn2to_[kv]weight$")  # which an edit must not leave behind
_MODEL_HINT = "give a diffusers folder or a single `.safetensors` file"

PICKLE_HINT = (
    "convert it to safetensors first: `torch.load` with `weights_only=True` runs none of it, "
    "and `safetensors.torch.save_file` writes what it reads"
)


@dataclass(frozen=True)
class CheckpointFile:
    """
    One safetensors file: `CheckpointFile("unet/a.safetensors", Path("/m/unet/..."), Header(...))`.
    """

    path: str
    source: Path
    header: Header


@dataclass(frozen=True)
class Checkpoint:
    """
    A model on disk: `open_checkpoint(Path("sd15"))`.

    `files` are its safetensors files, `entries` everything it consists of, `left_out` the weights
    in other formats (pickles, flax) that no edited copy takes along. All paths are relative to
    `root`, with `/`; a single file's `root` is the file itself and its path the file's name.
    """

    root: Path
    is_folder: bool
    files: tuple[CheckpointFile, ...]
    entries: tuple[Entry, ...]
    left_out: tuple[str, ...]
    slots_by_name: dict[tuple[str, str], tuple[TensorSlot, ...]] = field(repr=False)
    family: Family

    @property
    def components(self) -> frozenset[str]:
        """Return the components of which there are tensors: `unet`, `text_encoder`, `vae`, ..."""
        return frozenset(component for component, _ in self.slots_by_name)

    @cached_property
    def d_text(self) -> int:
        """Return the width of the text embeddings that the UNet's keys and values read."""
        ends = (".attn2.to_k.weight", ".add_k_proj.weight")
        return next(
            slots[0].shape[-1]
            for (component, name), slots in self.slots_by_name.items()
            if component == "unet" and name.endswith(ends)
        )

    def header(self, file: str) -> Header:
        """Return the header of one of `files`."""
        return next(found.header for found in self.files if found.path == file)

    def names(self, component: str) -> tuple[str, ...]:
        """Return the canonical names of a component's tensors, in the order of the files."""
        return tuple(name for owner, name in self.slots_by_name if owner == component)

    def holds(self, component: str, name: str) -> bool:
        """Tell whether the checkpoint has a tensor."""
        return (component, _canonical(component, name)) in self.slots_by_name

    def slots(self, component: str, name: str) -> tuple[TensorSlot, ...]:
        """
        Return every place where a tensor lives: one for each variant, and the EMA copy.

        `name` is as diffusers writes it; a text encoder's may lack its `text_model.`.

        Raises:
            CheckpointError: the checkpoint has no such tensor.
        """
        canonical = _canonical(component, name)
        found = self.slots_by_name.get((component, canonical), ())
        if component == "unet":
            found += self.slots_by_name.get((EMA_COMPONENT, canonical), ())
        if not found:
            raise CheckpointError(
                f"`{shown(self.root)}` has no tensor `{shown(name)}` in `{shown(component)}`"
            )
        return found


def open_checkpoint(path: Path) -> Checkpoint:
    """
    Return the checkpoint at `path`; only headers and shard indexes are read.

    Raises:
        RequestError: there is nothing at `path`.
        CheckpointError: what is there is no model, is damaged, or cannot be edited.
    """
    if not path.exists():
        raise RequestError(f"there is no file or folder `{shown(path)}`", _MODEL_HINT)
    is_folder = path.is_dir()
    entries = list_files(path) if is_folder else (_single_entry(path),)
    files = _read_headers(path, is_folder, entries)
    _check_indexes(entries, files)
    slots = _slots_by_name(files)
    _check_one_model(path, slots)
    family = family_of(path, {key: found[0].canonical_shape for key, found in slots.items()})
    _check_dtypes(slots)
    _check_copies(slots)
    left_out = weights_left_out(entries) if is_folder else ()
    return Checkpoint(path, is_folder, files, entries, left_out, slots, family)


def _canonical(component: str, name: str) -> str:
    return next(component_places(component, (name,))).name


def _single_entry(path: Path) -> Entry:
    if is_pickle(path):
        raise CheckpointError(
            f"`{shown(path)}` is a pickle, which may run code when it is read",
            PICKLE_HINT,
        )
    if not path.is_file():
        raise CheckpointError(f"`{shown(path)}` is neither a file nor a folder", _MODEL_HINT)
    return Entry(path.name, path, path.stat().st_size)


def _read_headers(
    root: Path, is_folder: bool, entries: tuple[Entry, ...]
) -> tuple[CheckpointFile, ...]:
    files = tuple(
        CheckpointFile(entry.path, entry.source, read_header(entry.source))
        for entry in entries
        if not is_folder or (is_safetensors(entry.path) and entry.path != UNDO_NAME)
    )
    if not entries:
        raise CheckpointError(f"folder `{shown(root)}` is empty", _MODEL_HINT)
    pickled = {entry.folder for entry in entries if is_pickle(entry.source)}
    if pickled and not {"", "unet"} & {
        Path(file.path).parent.as_posix().strip(".") for file in files
    }:
        raise CheckpointError(
            f"`{shown(root)}` has its UNet in a pickle only, which may run code when it is read",
            PICKLE_HINT,
        )
    if not files:
        raise CheckpointError(
            f"folder `{shown(root)}` is no model: no `.safetensors` file is in it", _MODEL_HINT
        )
    return files


def _check_indexes(entries: tuple[Entry, ...], files: tuple[CheckpointFile, ...]) -> None:
    headers = {file.path: file.header for file in files}
    for index, holders in read_indexes(entries).items():
        for tensor, file in holders.items():
            if file not in headers or tensor not in headers[file].tensors:
                raise CheckpointError(
                    f"index `{shown(index)}` puts tensor `{shown(tensor)}` in `{shown(file)}`, "
                    "which does not hold it"
                )


def _slots_by_name(
    files: Iterable[CheckpointFile],
) -> dict[tuple[str, str], tuple[TensorSlot, ...]]:
    slots: dict[tuple[str, str], tuple[TensorSlot, ...]] = {}
    for file in files:
        for place in _places(file):
            slot = _slot(file, place)
            key = (slot.component, slot.name)
            slots[key] = (*slots.get(key, ()), slot)
    return slots


def _places(file: CheckpointFile) -> Iterator[Place]:
    folder = file.path.rpartition("/")[0]
    if folder:
        return component_places(folder, file.header.tensors)
    return single_file_places(file.header.tensors)


def _slot(file: CheckpointFile, place: Place) -> TensorSlot:
    tensor = file.header.tensors[place.tensor]
    begin, end = file.header.span(place.tensor)
    shape = tensor.shape
    if place.third is not None:
        _check_thirds(file, tensor)
        third_bytes = (end - begin) // 3
        begin += place.third * third_bytes
        end = begin + third_bytes
        shape = (shape[0] // 3, *shape[1:])
    return TensorSlot(
        component=place.component,
        name=place.name,
        file=file.path,
        tensor=place.tensor,
        dtype=tensor.dtype,
        shape=shape,
        source=file.source,
        begin=begin,
        end=end,
        is_transposed=place.is_transposed,
    )


def _check_thirds(file: CheckpointFile, tensor: TensorInfo) -> None:
    if not tensor.shape or tensor.shape[0] % 3 or (tensor.end - tensor.begin) % 3:
        raise CheckpointError(
            f"tensor `{shown(tensor.name)}` of `{shown(file.source)}` is {list(tensor.shape)}, "
            "which is not q, k and v on top of each other"
        )


def _check_one_model(root: Path, slots: dict[tuple[str, str], tuple[TensorSlot, ...]]) -> None:
    """Raise CheckpointError where the root of a folder holds models that nothing ties together."""
    files = [slot.file for slot in slots.get(("unet", "conv_in.weight"), ())]
    if any("/" in file for file in files):
        return  # of a diffusers folder, whose publisher put the same model beside it
    stems = {_SHARD.sub("", file).partition(".")[0]: file for file in files}  # variants are one
    if len(stems) > 1:
        first, second, *_ = sorted(stems.values())
        raise CheckpointError(
            f"folder `{shown(root)}` holds {len(stems)} models, "
            f"among them `{shown(first)}` and `{shown(second)}`",
            "give one of them",
        )


def _check_dtypes(slots: dict[tuple[str, str], tuple[TensorSlot, ...]]) -> None:
    for (component, _), copies in slots.items():
        for slot in copies:
            is_small = ITEM_BITS[slot.dtype] <= 8
            is_number = slot.name.endswith(".weight") or (is_small and slot.dtype.startswith("F"))
            is_edited = component.startswith(_EDITED) and is_number
            if is_edited and slot.dtype not in EDITABLE_DTYPES:
                what = "is quantised" if is_small else "cannot be edited"
                raise CheckpointError(
                    f"`{shown(slot.source)}` {what}: "
                    f"tensor `{shown(slot.tensor)}` is {slot.dtype}, "
                    f"loco edits {', '.join(EDITABLE_DTYPES)}",
                    "give the float16 or float32 version of the model",
                )


def _check_copies(slots: dict[tuple[str, str], tuple[TensorSlot, ...]]) -> None:
    for (component, name), copies in slots.items():
        if component == OTHER_COMPONENT and name.startswith(EMA_PREFIX) and _EMA_KEY.search(name):
            raise CheckpointError(
                f"`{shown(copies[0].source)}` has the averaged copy `{shown(name)}`, "
                "and nothing that it is a copy of",
                "give the model without its EMA copy",
            )
        for slot in copies:
            if component == "unet" and slot.canonical_shape != copies[0].canonical_shape:
                first = copies[0]
                raise CheckpointError(
                    f"`{shown(first.source)}` and `{shown(slot.source)}` are different models: "
                    f"`{shown(slot.name)}` is {list(first.shape)} in one "
                    f"and {list(slot.shape)} in the other"
                )
