"""
Where the tensors of a pickle lie, found without running any of it: to be compared, never edited.

`torch.save` writes a zip: `NAME/data.pkl` puts tensors together from storages, and each storage is
a member `NAME/data/KEY`, not compressed, so that its bytes can be read where they are. Of what a
pickle may name, only the words for tensors, parameters and dictionaries are known here, fewer than
`torch.load(weights_only=True)` admits; anything else is refused before it is looked up.
"""

import pickle
import struct
from collections import OrderedDict
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from loco_cli.checkpoint.header import (
    HEADER_LIMIT_BYTES,
    ITEM_BITS,
    Header,
    TensorInfo,
    shown,
)
from loco_cli.errors import CheckpointError

PICKLE_HINT = (
    "convert it to safetensors first: `torch.load` with `weights_only=True` runs none of it, "
    "and `safetensors.torch.save_file` writes what it reads"
)
_STORAGES = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}
_LOCAL_HEADER_BYTES = 30
# what a reader of programs raises where the program is nonsense
_NONSENSE = (
    *(pickle.UnpicklingError, TypeError, ValueError, LookupError, AttributeError, EOFError),
    *(AssertionError, OverflowError, RecursionError, MemoryError, NameError, struct.error),
)
_NO_ZIP = (BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error)


class _Storage(NamedTuple):  # which, unlike a dataclass, no pickle can change
    key: str
    dtype: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class _Archive:
    """An open zip: where it is, its members by name, and the folder in it that all lie in."""

    path: Path
    file: BinaryIO
    members: dict[str, ZipInfo]
    root: str

    @classmethod
    def of(cls, path: Path, file: BinaryIO, archive: ZipFile) -> "_Archive":
        members = {member.filename: member for member in archive.infolist()}
        roots = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise _no_zip(path)
        return cls(path, file, members, roots[0])

    def member(self, name: str) -> ZipInfo:
        member = self.members.get(self.root + name)
        if member is None or member.compress_type != ZIP_STORED:
            raise CheckpointError(
                f"`{shown(self.path)}` has no `{shown(name)}` that is not compressed", PICKLE_HINT
            )
        return member

    def begin(self, member: ZipInfo) -> int:
        """Return where the bytes of a member begin: behind its own header, of whatever length."""
        self.file.seek(member.header_offset)
        n_name, n_extra = struct.unpack("<26xHH", self.file.read(_LOCAL_HEADER_BYTES))
        return member.header_offset + _LOCAL_HEADER_BYTES + int(n_name) + int(n_extra)


def read_pickle(path: Path) -> Header:
    """
    Return what `read_header` would of the same tensors, of a pickle's `state_dict` if it has one.

    Raises:
        CheckpointError: the file is no zip of `torch.save`, names anything but tensors, is damaged,
            or holds tensors whose numbers do not follow one another.
    """
    n_bytes = path.stat().st_size
    try:
        with path.open("rb") as file, ZipFile(file) as zipped:
            archive = _Archive.of(path, file, zipped)
            member = archive.member("data.pkl")
            if member.file_size > HEADER_LIMIT_BYTES:
                raise CheckpointError(
                    f"the pickle in `{shown(path)}` has {member.file_size} bytes, "
                    f"at most {HEADER_LIMIT_BYTES} are read"
                )
            tensors = _tensors(path, zipped.read(member))
            infos = {name: _info(archive, name, one, n_bytes) for name, one in tensors.items()}
    except OSError as error:
        raise CheckpointError(f"cannot read `{shown(path)}`: {error.strerror}") from error
    except _NO_ZIP as error:
        raise _no_zip(path) from error
    return Header(infos, {}, data_start=0, file_bytes=n_bytes)


class _Reader(pickle._Unpickler):  # in Python: the one in C takes any memory it is told to
    """Builds what a pickle says out of `_Tensor` and dictionaries, and of nothing else."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        super().__init__(file)
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _Rebuild(),
            ("torch._utils", "_rebuild_parameter"): _Unwrap(),
        }
        if (module, name) not in known:
            raise CheckpointError(
                f"pickle `{shown(self.path)}` names `{shown(f'{module}.{name}')}`, which is no "
                "tensor and may run code: nothing of it is read",
                PICKLE_HINT,
            )
        return known[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, _ = pid
        if kind != "storage" or dtype not in ITEM_BITS or not isinstance(key, str):
            raise pickle.UnpicklingError("no storage")
        return _Storage(key, dtype)


class _Rebuild:  # an object without attributes, where a function's could be set by a pickle
    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> _Tensor:
        is_right = isinstance(storage, _Storage) and all(
            type(one) is int and one >= 0 for one in (offset, *shape, *stride)
        )
        if not is_right or len(shape) != len(stride):
            raise pickle.UnpicklingError("no tensor")
        return _Tensor(storage, offset, tuple(shape), tuple(stride))


class _Unwrap:
    __slots__ = ()

    def __call__(self, tensor: Any, *_: Any) -> Any:
        return tensor


def _no_zip(path: Path) -> CheckpointError:
    return CheckpointError(
        f"`{shown(path)}` is no zip of tensors, which `torch.save` writes", PICKLE_HINT
    )


def _tensors(path: Path, content: bytes) -> dict[str, _Tensor]:
    try:
        tree = _Reader(BytesIO(content), path).load()
    except _NONSENSE as error:
        raise CheckpointError(f"the pickle in `{shown(path)}` is damaged") from error
    if isinstance(tree, dict) and isinstance(tree.get("state_dict"), dict):
        tree = tree["state_dict"]
    entries = tree.items() if isinstance(tree, dict) else ()
    return {
        name: value
        for name, value in entries
        if isinstance(name, str) and isinstance(value, _Tensor)
    }


def _info(archive: _Archive, name: str, tensor: _Tensor, file_bytes: int) -> TensorInfo:
    where = f"tensor `{shown(name)}` of `{shown(archive.path)}`"
    (key, dtype), offset, shape, stride = tensor
    steps = [prod(shape[i + 1 :]) for i in range(len(shape))]
    is_dense = all(n == 1 or own == step for n, own, step in zip(shape, stride, steps, strict=True))
    if prod(shape) and not is_dense:
        raise CheckpointError(
            f"{where} is {list(shape)} in steps of {list(stride)}: "
            "its numbers do not follow one another",
            PICKLE_HINT,
        )
    member = archive.member(f"data/{key}")
    item_bytes = ITEM_BITS[dtype] // 8
    begin = archive.begin(member) + offset * item_bytes
    n_bytes = prod(shape) * item_bytes
    if offset * item_bytes + n_bytes > member.file_size or begin + n_bytes > file_bytes:
        raise CheckpointError(
            f"{where} takes {n_bytes} bytes from byte {begin}, which its storage does not have"
        )
    return TensorInfo(name, dtype, shape, begin, begin + n_bytes)
