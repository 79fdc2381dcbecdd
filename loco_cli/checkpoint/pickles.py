"""
The tensors of a pickle, located without running it, for comparison only.

`torch.save` writes a zip. `NAME/data.pkl` assembles tensors from storages, and each storage is an
uncompressed member `NAME/data/KEY`, so its bytes can be read in place. The names in the pickle are
checked before `torch.load(weights_only=True)` loads it onto the device `meta`: torch accepts more
names than tensors need, and some of them allocate any amount of memory.
"""

import pickle
import pickletools
import re
import struct
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from loco_cli.checkpoint.header import HEADER_LIMIT_BYTES, Header, TensorInfo
from loco_cli.errors import CheckpointError, printable

if TYPE_CHECKING:
    from torch import Tensor

PICKLE_HINT = (
    "convert it to safetensors first: load it with `torch.load(..., weights_only=True)`, which "
    "runs no code, and save the tensors with `safetensors.torch.save_file`"
)
_DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
_NAMES = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor_v2|parameter)|torch \w+Storage"
)
# opcodes that build names at run time; `torch.save` writes none of them
_DYNAMIC_NAME_OPCODES = ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4", "INST")
_LOCAL_HEADER_BYTES = 30
# `zipfile` raises RuntimeError for an encrypted member, and the others for damage
_ZIP_ERRORS = (BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error)


def read_pickle(path: Path) -> Header:
    """
    Locate the tensors of a pickle, or of its `state_dict` if it has one.

    Args:
        path: A file of `torch.save`.

    Returns:
        The header that a safetensors file of these tensors would have, with the offsets in `path`.

    Raises:
        CheckpointError: The file is not a zip of `torch.save`, names objects other than tensors, is
            damaged, or has a tensor that is not contiguous.
    """
    try:
        with path.open("rb") as file, ZipFile(file) as archive:
            ends = {begin: begin + size for begin, size in _members(path, file, archive)}
            _check_pickle(path, archive)
    except OSError as error:
        raise CheckpointError(f"cannot read `{printable(path)}`: {error.strerror}") from error
    except _ZIP_ERRORS as error:
        raise _not_a_zip(path) from error
    infos = {name: _info(path, name, tensor, ends) for name, tensor in _load(path).items()}
    return Header(infos, {}, data_start=0, file_bytes=path.stat().st_size)


def _check_pickle(path: Path, archive: ZipFile) -> None:
    """Raise CheckpointError if the pickle is too long, damaged, or names more than tensors."""
    pickles = [member for member in archive.infolist() if member.filename.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise _not_a_zip(path)
    if pickles[0].file_size > HEADER_LIMIT_BYTES:
        raise CheckpointError(
            f"the pickle in `{printable(path)}` has {pickles[0].file_size} bytes, "
            f"loco reads at most {HEADER_LIMIT_BYTES}"
        )
    try:
        for code, argument, _ in pickletools.genops(archive.read(pickles[0])):
            if code.name in _DYNAMIC_NAME_OPCODES:
                raise CheckpointError(
                    f"pickle `{printable(path)}` builds names at run time, so it is not loaded",
                    PICKLE_HINT,
                )
            if code.name == "GLOBAL" and not _NAMES.fullmatch(str(argument)):
                _refuse(path, str(argument).replace(" ", "."))
    except (ValueError, LookupError, OverflowError) as error:
        raise _damaged(path) from error


def _members(path: Path, file: BinaryIO, archive: ZipFile) -> list[tuple[int, int]]:
    """Return the offset and the size of each member's content."""
    members = []
    for member in archive.infolist():
        if member.compress_type != ZIP_STORED:
            raise CheckpointError(
                f"`{printable(member.filename)}` in `{printable(path)}` is compressed", PICKLE_HINT
            )
        members.append((_begin(file, member), member.file_size))
    return members


def _begin(file: BinaryIO, member: ZipInfo) -> int:
    """Return the offset of a member's content, after its header of variable length."""
    file.seek(member.header_offset)
    n_name, n_extra = struct.unpack("<26xHH", file.read(_LOCAL_HEADER_BYTES))
    return member.header_offset + _LOCAL_HEADER_BYTES + int(n_name) + int(n_extra)


def _load(path: Path) -> "dict[str, Tensor]":
    """Return the tensors by name, without their values."""
    import torch  # a comparison of safetensors files does not need it

    try:
        tree = torch.load(path, map_location="meta", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle can raise any class
        named = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and named:
            _refuse(path, named[1])
        raise _damaged(path) from error
    if isinstance(tree, dict) and isinstance(tree.get("state_dict"), dict):
        tree = tree["state_dict"]
    entries = tree.items() if isinstance(tree, dict) else ()
    return {
        name: value
        for name, value in entries
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }


def _info(path: Path, name: str, tensor: "Tensor", ends: dict[int, int]) -> TensorInfo:
    where = f"tensor `{printable(name)}` of `{printable(path)}`"
    shape, kind = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
    if kind not in _DTYPES:
        raise CheckpointError(f"{where} has the dtype `{kind}`, which `diff` cannot compare")
    if not tensor.is_contiguous():
        raise CheckpointError(
            f"{where} is not contiguous: its shape is {list(shape)} "
            f"and its strides are {list(tensor.stride())}",
            PICKLE_HINT,
        )
    # torch sets this offset on storages that it does not load
    start = getattr(tensor.untyped_storage(), "_checkpoint_offset", None)
    if start not in ends:
        raise _damaged(path)
    begin = start + tensor.storage_offset() * tensor.element_size()
    n_bytes = prod(shape) * tensor.element_size()
    if begin + n_bytes > ends[start]:
        raise CheckpointError(
            f"{where} needs {n_bytes} bytes from byte {begin}, which its storage does not have"
        )
    return TensorInfo(name, _DTYPES[kind], shape, begin, begin + n_bytes)


def _refuse(path: Path, name: str) -> NoReturn:
    raise CheckpointError(
        f"pickle `{printable(path)}` names `{printable(name)}`, which is not a tensor and can "
        "run code, so it is not loaded",
        PICKLE_HINT,
    )


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(f"the pickle in `{printable(path)}` is damaged")


def _not_a_zip(path: Path) -> CheckpointError:
    return CheckpointError(
        f"`{printable(path)}` is not a zip of tensors as `torch.save` writes it", PICKLE_HINT
    )
