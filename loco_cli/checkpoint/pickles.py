"""
Where the tensors of a pickle lie, found without running any of it: to be compared, never edited.

`torch.save` writes a zip: `NAME/data.pkl` puts tensors together from storages, and each storage is
a member `NAME/data/KEY`, not compressed, so that its bytes can be read where they are. What the
pickle names is looked at before `torch.load(weights_only=True)` reads it, onto the device `meta`:
that admits more names than tensors need, and some of those take any memory they are told to.
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
    "convert it to safetensors first: `torch.load` with `weights_only=True` runs none of it, "
    "and `safetensors.torch.save_file` writes what it reads"
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
_NAMED_LATER = ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4", "INST")  # none of which `torch.save` writes
_LOCAL_HEADER_BYTES = 30
# what `zipfile` raises: RuntimeError for a member under a password, the others for damage
_NO_ZIP = (BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error)


def read_pickle(path: Path) -> Header:
    """
    Return what `read_header` would of the same tensors, of a pickle's `state_dict` if it has one.

    Raises:
        CheckpointError: the file is no zip of `torch.save`, names anything but tensors, is damaged,
            or holds tensors whose numbers do not follow one another.
    """
    try:
        with path.open("rb") as file, ZipFile(file) as archive:
            ends = {begin: begin + size for begin, size in _members(path, file, archive)}
            _check_pickle(path, archive)
    except OSError as error:
        raise CheckpointError(f"cannot read `{printable(path)}`: {error.strerror}") from error
    except _NO_ZIP as error:
        raise _no_zip(path) from error
    infos = {name: _info(path, name, one, ends) for name, one in _load(path).items()}
    return Header(infos, {}, data_start=0, file_bytes=path.stat().st_size)


def _check_pickle(path: Path, archive: ZipFile) -> None:
    """Raise CheckpointError where the pickle is too long, damaged, or names more than tensors."""
    found = [one for one in archive.infolist() if one.filename.endswith("/data.pkl")]
    if len(found) != 1:
        raise _no_zip(path)
    if found[0].file_size > HEADER_LIMIT_BYTES:
        raise CheckpointError(
            f"the pickle in `{printable(path)}` has {found[0].file_size} bytes, "
            f"at most {HEADER_LIMIT_BYTES} are read"
        )
    try:
        for code, argument, _ in pickletools.genops(archive.read(found[0])):
            if code.name in _NAMED_LATER:
                raise CheckpointError(
                    f"pickle `{printable(path)}` puts names together while it runs: "
                    "nothing of it is read",
                    PICKLE_HINT,
                )
            if code.name == "GLOBAL" and not _NAMES.fullmatch(str(argument)):
                _refuse(path, str(argument).replace(" ", "."))
    except (ValueError, LookupError, OverflowError) as error:
        raise _damaged(path) from error


def _members(path: Path, file: BinaryIO, archive: ZipFile) -> list[tuple[int, int]]:
    """Return where the bytes of each member begin, and how many they are."""
    found = []
    for member in archive.infolist():
        if member.compress_type != ZIP_STORED:
            raise CheckpointError(
                f"`{printable(member.filename)}` in `{printable(path)}` is compressed", PICKLE_HINT
            )
        found.append((_begin(file, member), member.file_size))
    return found


def _begin(file: BinaryIO, member: ZipInfo) -> int:
    """Return where the bytes of a member begin: behind its own header, of whatever length."""
    file.seek(member.header_offset)
    n_name, n_extra = struct.unpack("<26xHH", file.read(_LOCAL_HEADER_BYTES))
    return member.header_offset + _LOCAL_HEADER_BYTES + int(n_name) + int(n_extra)


def _load(path: Path) -> "dict[str, Tensor]":
    """Return the tensors by name, without their numbers."""
    import torch  # which nothing but a pickle needs to be compared

    try:
        tree = torch.load(path, map_location="meta", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a reader of programs raises anything where they are nonsense
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
        raise CheckpointError(f"{where} has numbers of kind `{kind}`, which `diff` cannot compare")
    if not tensor.is_contiguous():
        raise CheckpointError(
            f"{where} is {list(shape)} in steps of {list(tensor.stride())}: "
            "its numbers do not follow one another",
            PICKLE_HINT,
        )
    # where torch has left out a storage's numbers it says where they are
    start = getattr(tensor.untyped_storage(), "_checkpoint_offset", None)
    if start not in ends:
        raise _damaged(path)
    begin = start + tensor.storage_offset() * tensor.element_size()
    n_bytes = prod(shape) * tensor.element_size()
    if begin + n_bytes > ends[start]:
        raise CheckpointError(
            f"{where} takes {n_bytes} bytes from byte {begin}, which its storage does not have"
        )
    return TensorInfo(name, _DTYPES[kind], shape, begin, begin + n_bytes)


def _refuse(path: Path, name: str) -> NoReturn:
    raise CheckpointError(
        f"pickle `{printable(path)}` names `{printable(name)}`, which is no tensor and may "
        "run code: "
        "nothing of it is read",
        PICKLE_HINT,
    )


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(f"the pickle in `{printable(path)}` is damaged")


def _no_zip(path: Path) -> CheckpointError:
    return CheckpointError(
        f"`{printable(path)}` is no zip of tensors, which `torch.save` writes", PICKLE_HINT
    )
