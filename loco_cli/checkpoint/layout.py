"""
The layout of a checkpoint: the file and range of each tensor, recognised from headers alone.

A checkpoint is a diffusers folder (with shards and variants), a network alone, or a single file in
the original layout. Recognition never depends on file names, and an unknown layout is refused.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from loco_cli.checkpoint.files import (
    MODEL_HINT,
    CheckpointFile,
    Entry,
    is_weights,
    list_files,
    read_files,
    single_entry,
    weights_left_out,
)
from loco_cli.checkpoint.header import ITEM_BITS, Header, TensorInfo
from loco_cli.checkpoint.reader import TensorSlot, finest, read_rows, read_tensor
from loco_cli.errors import CheckpointError, RequestError, printable
from loco_cli.families import registry
from loco_cli.families.compvis import is_orphan_ema
from loco_cli.families.names import RowSlice, TensorAlias, clip_name, component_aliases
from loco_cli.families.recognise import family_of, single_file_aliases
from loco_cli.families.spec import Family

if TYPE_CHECKING:
    from torch import Tensor

_EDITABLE_DTYPES = ("F32", "F16", "BF16")
_SHARD = re.compile(r"-\d{5}-of-\d{5}")


@dataclass(frozen=True)
class Checkpoint:
    """
    A model on disk: `open_checkpoint(Path("sd15"))`.

    `files` are its safetensors files, and `entries` all of its files. `left_out` names weights in
    other formats (pickles, Flax) that an edited copy leaves out. All paths are relative to `root`
    and use `/`. For a single file, `root` is the file and its path is the file's name.
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
        """Return the components that have tensors: `unet`, `text_encoder`, `vae`, ..."""
        return frozenset(component for component, _ in self.slots_by_name)

    @property
    def network(self) -> str:
        """Return the denoising network, the component with the editable layers."""
        return self.family.network.component

    @property
    def carried(self) -> tuple[str, ...]:
        """
        Return the paths of weights that an edited copy keeps but no edit changes.

        They have another format, or are a network or text encoder in a folder with an unknown name.
        """
        known = registry.catalog()
        others = {
            file.path
            for file in self.files
            if file.path.rpartition("/")[0] not in ("", *known.components)
            and any(
                name.endswith(known.key_ends) or clip_name(name).startswith("text_model.encoder.")
                for name in file.header.tensors
            )
        }
        return tuple(
            entry.path
            for entry in self.entries
            if entry.path in others
            or (is_weights(entry.source) and self.is_folder and entry.path not in self.left_out)
        )

    @cached_property
    def d_text(self) -> int:
        """Return the width of the text embeddings that the key and value projections read."""
        return next(
            slots[0].shape[-1]
            for (component, name), slots in self.slots_by_name.items()
            if component == self.network and name.endswith(self.family.key_end)
        )

    def header(self, file: str) -> Header:
        """Return the header of one of `files`."""
        return next(candidate.header for candidate in self.files if candidate.path == file)

    def names(self, component: str) -> tuple[str, ...]:
        """Return the canonical names of a component's tensors, in the order of the files."""
        return tuple(name for owner, name in self.slots_by_name if owner == component)

    def holds(self, component: str, name: str) -> bool:
        """Return True if the checkpoint has the tensor."""
        return (component, _canonical(component, name)) in self.slots_by_name

    def slots(self, component: str, name: str) -> tuple[TensorSlot, ...]:
        """
        Return every slot of a tensor: one for each variant, and its EMA copy.

        Args:
            component: The component, such as `unet`.
            name: The name in diffusers. A text encoder's `text_model.` is optional.

        Raises:
            CheckpointError: The checkpoint has no such tensor.
        """
        canonical = _canonical(component, name)
        found = self.slots_by_name.get((component, canonical), ())
        if component == self.network:
            found += self.slots_by_name.get((self.family.network.ema_component, canonical), ())
        if not found:
            raise CheckpointError(
                f"`{printable(self.root)}` has no tensor `{printable(name)}` in "
                f"`{printable(component)}`"
            )
        return found


@dataclass(frozen=True)
class ComponentReader:
    """
    The tensors of one component: `ComponentReader(checkpoint, "unet").read("conv_in.weight")`.

    If a tensor has several copies, the most precise one is read.
    """

    checkpoint: Checkpoint
    component: str

    def read(self, name: str) -> "Tensor":
        """Return a tensor in float32."""
        return read_tensor(self.slot(name)).float()

    def read_rows(self, name: str, rows: Sequence[int]) -> "Tensor":  # [n, d]
        """Read the given rows of a tensor [*, d], in float32."""
        return read_rows(self.slot(name), rows).float()

    def slot(self, name: str) -> TensorSlot:
        """Return the slot of the most precise copy."""
        return finest(self.checkpoint.slots(self.component, name))


def open_checkpoint(path: Path, *, with_pickles: bool = False) -> Checkpoint:
    """
    Open the checkpoint at `path`; only headers and shard indexes are read.

    Args:
        path: A diffusers folder or a single file.
        with_pickles: Accept pickles, for commands that only read the tensors.

    Returns:
        The checkpoint, with its family and the slots of all tensors.

    Raises:
        RequestError: `path` does not exist.
        CheckpointError: It is not a model, is damaged, or cannot be edited.

    Example:
        open_checkpoint(Path("sd15")).slots("unet", "conv_in.weight")
    """
    if not path.exists():
        raise RequestError(f"there is no file or folder `{printable(path)}`", MODEL_HINT)
    is_folder = path.is_dir()
    entries = list_files(path) if is_folder else (single_entry(path),)
    files = read_files(path, entries, with_pickles=with_pickles)
    slots = _slots_by_name(files)
    _check_one_model(path, slots)
    family = family_of(path, {key: found[0].canonical_shape for key, found in slots.items()})
    _check_dtypes(family, slots)
    _check_copies(family, slots)
    left_out = weights_left_out(entries) if is_folder else ()
    return Checkpoint(path, is_folder, files, entries, left_out, slots, family)


def _canonical(component: str, name: str) -> str:
    return next(component_aliases(component, (name,))).name


def _slots_by_name(
    files: Iterable[CheckpointFile],
) -> dict[tuple[str, str], tuple[TensorSlot, ...]]:
    slots: dict[tuple[str, str], tuple[TensorSlot, ...]] = {}
    for file in files:
        folder, tensors = file.path.rpartition("/")[0], file.header.tensors
        places = component_aliases(folder, tensors) if folder else single_file_aliases(tensors)
        for place in places:
            slot = _slot(file, place)
            key = (slot.component, slot.name)
            slots[key] = (*slots.get(key, ()), slot)
    return slots


def _slot(file: CheckpointFile, place: TensorAlias) -> TensorSlot:
    tensor = file.header.tensors[place.tensor]
    begin, end = file.header.span(place.tensor)
    shape = tensor.shape
    if place.rows is not None:
        _check_rows(file, tensor, place.rows)
        (first, last), n_bytes = place.rows.of(shape[0]), end - begin
        begin, end = (begin + offset for offset in place.rows.of(n_bytes))
        shape = (last - first, *shape[1:])
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


def _check_rows(file: CheckpointFile, tensor: TensorInfo, rows: RowSlice) -> None:
    sizes = (*tensor.shape[:1], tensor.end - tensor.begin)
    if not tensor.shape or not all(map(rows.divides, sizes)):
        raise CheckpointError(
            f"tensor `{printable(tensor.name)}` of `{printable(file.source)}` has "
            f"shape {list(tensor.shape)}, so it cannot be q, k and v stacked along the rows"
        )


def _check_one_model(root: Path, slots: dict[tuple[str, str], tuple[TensorSlot, ...]]) -> None:
    """Raise CheckpointError if the root of a folder holds several separate models."""
    inputs = [(network.component, network.input_tensor) for network in registry.catalog().networks]
    files = [slot.file for key in inputs for slot in slots.get(key, ())]
    if any("/" in file for file in files):
        return  # publishers of diffusers folders put the same model beside it, as single files
    # variants of one model share a stem
    stems = {_SHARD.sub("", file).partition(".")[0]: file for file in files}
    if len(stems) > 1:
        first, second, *_ = sorted(stems.values())
        raise CheckpointError(
            f"folder `{printable(root)}` holds {len(stems)} models, "
            f"among them `{printable(first)}` and `{printable(second)}`",
            "give the path of one of them",
        )


def _check_dtypes(family: Family, slots: dict[tuple[str, str], tuple[TensorSlot, ...]]) -> None:
    # as prefixes, these match the EMA copy and further encoders as well
    edited = (family.network.component, "text_encoder")
    for (component, _), copies in slots.items():
        for slot in copies:
            is_small = ITEM_BITS[slot.dtype] <= 8
            is_number = slot.name.endswith(".weight") or (is_small and slot.dtype.startswith("F"))
            is_edited = component.startswith(edited) and is_number
            if is_edited and slot.dtype not in _EDITABLE_DTYPES:
                problem = "is quantised" if is_small else "cannot be edited"
                raise CheckpointError(
                    f"`{printable(slot.source)}` {problem}: "
                    f"tensor `{printable(slot.tensor)}` is {slot.dtype}, "
                    f"but loco edits only {', '.join(_EDITABLE_DTYPES)}",
                    "give the float16 or float32 version of the model",
                )


def _check_copies(family: Family, slots: dict[tuple[str, str], tuple[TensorSlot, ...]]) -> None:
    for (component, name), copies in slots.items():
        if is_orphan_ema(component, name):
            raise CheckpointError(
                f"`{printable(copies[0].source)}` has the averaged copy `{printable(name)}`, "
                "but not the tensor itself",
                "give the model without its EMA copy",
            )
        for slot in copies:
            is_network = component == family.network.component
            if is_network and slot.canonical_shape != copies[0].canonical_shape:
                first = copies[0]
                raise CheckpointError(
                    f"`{printable(first.source)}` and `{printable(slot.source)}` are "
                    "different models: "
                    f"`{printable(slot.name)}` is {list(first.shape)} in one "
                    f"and {list(slot.shape)} in the other"
                )
