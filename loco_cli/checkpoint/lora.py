"""
A LoRA file: changes of linear maps, each as two factors.

All modules have the same rank, padded with zeros, and alpha equals the rank. If the modules of a
file have different alphas, diffusers applies one of them to all.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from loco_cli.checkpoint.header import Header, TensorInfo, read_header, render_header
from loco_cli.checkpoint.layout import Checkpoint
from loco_cli.checkpoint.reader import TensorSlot, read_tensor
from loco_cli.errors import CheckpointError, printable
from loco_cli.families.names import KOHYA, PEFT, LoraSpelling
from loco_cli.families.spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor

_LEGACY_BEGIN, _LEGACY_END = 1 << 20, (1 << 20) + (64 << 10)
_ROLES = {KOHYA.up: "up", KOHYA.down: "down", ".alpha": "alpha", PEFT.up: "up", PEFT.down: "down"}


@dataclass(frozen=True)
class LowRank:
    """
    The change of one linear map: `LowRank("unet", "mid_block...attn2.to_k", up, down)`.

    The map `W` becomes `W + up @ down`, with `up` [d_out, r] and `down` [r, d_in].
    """

    component: str
    module: str
    up: "Tensor"
    down: "Tensor"


@dataclass(frozen=True)
class LoraPart:
    """
    The slots of one tensor's change in a LoRA file: `LoraPart("unet", "...to_k.weight", ...)`.

    Without `alpha`, the change is the product of the factors.
    """

    component: str
    name: str
    up: TensorSlot
    down: TensorSlot
    alpha: TensorSlot | None

    def read(self) -> "Tensor":  # [d_out, d_in]
        """Return the change in float64; the change of a convolution is flattened."""
        up, down = (read_tensor(slot).double().flatten(1) for slot in (self.up, self.down))
        scale = read_tensor(self.alpha).item() / len(down) if self.alpha else 1.0
        return scale * (up @ down)


@dataclass(frozen=True)
class Lora:
    """An open LoRA file that fits a base: `open_lora(Path("no-monet.safetensors"), base)`."""

    path: Path
    parts: tuple[LoraPart, ...]


def lora_tensors(spelling: LoraSpelling, changes: Sequence[LowRank]) -> dict[str, "Tensor"]:
    """
    Build the tensors of a LoRA file, in float32.

    Args:
        spelling: The tensor names of the family.
        changes: The changed modules; `up` is [d_out, r] and `down` is [r, d_in].

    Returns:
        The tensors by name, sorted. All factors are padded to the largest rank.
    """
    import torch
    from torch.nn.functional import pad

    rank = max(change.up.shape[1] for change in changes)
    tensors = {}
    for change in (*changes, *_partners(spelling, changes)):
        name = spelling.name(change.component, change.module)
        n_missing = rank - change.up.shape[1]
        tensors[name + spelling.up] = pad(change.up.float(), (0, n_missing))  # [d_out, rank]
        padded = pad(change.down.float(), (0, 0, 0, n_missing))  # [rank, d_in]
        tensors[name + spelling.down] = padded
        if spelling.alpha:
            tensors[name + spelling.alpha] = torch.tensor(float(rank))
    return dict(sorted(tensors.items()))


def lora_metadata(
    spec: ModelSpec, *, rank: int, name: str, title: str, base: str
) -> dict[str, str]:
    """
    Return the metadata by which A1111, Forge and ComfyUI recognise a LoRA.

    Args:
        spec: The model that the LoRA is for.
        rank: The rank of all modules.
        name: The name of the LoRA in a prompt.
        title: The title that programs show.
        base: The name of the base model.

    Returns:
        The metadata; empty if none of these programs runs the family.
    """
    spelling, is_v = spec.family.lora, spec.prediction == "v_prediction"
    if spelling.base_version is None:
        return {}
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(rank),
        "ss_base_model_version": spelling.base_version + ("_v" if is_v else ""),
        "ss_v2": str(spelling.is_v2),
        "ss_output_name": name,
        "ss_sd_model_name": base,
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{spec.architecture}/lora",
        # the library whose module names the file uses
        "modelspec.implementation": str(spelling.implementation),
        "modelspec.title": title,
        "modelspec.resolution": f"{spec.resolution}x{spec.resolution}",
        "modelspec.prediction_type": "v" if is_v else "epsilon",
        "modelspec.usage_hint": "strength 1 is the whole edit; there is no word to trigger it",
    }


def write_lora(
    file: BinaryIO, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str]
) -> None:
    """Write a LoRA file; metadata of kohya and modelspec gets their hashes as well."""
    infos = tuple(_infos(tensors))
    file.write(render_header(infos, {**metadata, **_hashes(infos, tensors, metadata)}))
    for tensor in tensors.values():
        file.write(_content(tensor))


def is_lora(path: Path) -> bool:
    """Return True if all tensors of a file are those of a LoRA; raise as `read_header` does."""
    names = read_header(path).tensors
    return bool(names) and all(_split(name)[1] for name in names)


def open_lora(path: Path, base: Checkpoint) -> Lora:
    """
    Open a LoRA file for `base`; only its header is read.

    Args:
        path: The LoRA file, with names of kohya or PEFT.
        base: The checkpoint that the LoRA changes.

    Returns:
        The LoRA, with the slots of each changed tensor.

    Raises:
        CheckpointError: A tensor is missing, belongs to no module of `base`, or does not fit it.
    """
    header, spelling = read_header(path), base.family.lora
    known = {
        stem: (component, name)
        for component, name in base.slots_by_name
        if name.endswith(".weight")
        and (component == base.network or component.startswith("text_encoder"))
        for stem in spelling.names(component, name.removesuffix(".weight"))
    }
    found: dict[str, dict[str, TensorSlot]] = {}
    for tensor in header.tensors:
        stem, end = _split(tensor)
        if stem not in known or not end:
            raise CheckpointError(
                f"LoRA `{printable(path)}` does not fit `{printable(base.root)}`, "
                f"which has no module for tensor `{printable(tensor)}`",
                "give the base that it was made from",
            )
        found.setdefault(stem, {})[_ROLES[end]] = _slot(path, header, tensor, *known[stem])
    parts = (_part(path, base, slots, *known[stem]) for stem, slots in found.items())
    return Lora(path, tuple(parts))


def _partners(spelling: LoraSpelling, changes: Sequence[LowRank]) -> Iterator[LowRank]:
    """Yield zero changes for modules that programs expect beside a changed one."""
    written = {(change.component, change.module) for change in changes}
    for change in changes:
        for module in spelling.partners(change.component, change.module):
            if (change.component, module) not in written:
                written.add((change.component, module))
                yield LowRank(change.component, module, 0 * change.up, 0 * change.down)


def _infos(tensors: Mapping[str, "Tensor"]) -> Iterator[TensorInfo]:
    begin = 0
    for name, tensor in tensors.items():
        end = begin + tensor.nbytes
        yield TensorInfo(name, "F32", tuple(tensor.shape), begin, end)
        begin = end


def _content(tensor: "Tensor") -> bytes:
    content: bytes = tensor.contiguous().numpy().astype("<f4", copy=False).tobytes()
    return content


def _hashes(
    infos: Sequence[TensorInfo], tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str]
) -> dict[str, str]:
    """
    Return the hashes of modelspec and kohya, and kohya's legacy hash.

    The legacy hash covers 64 KiB at 1 MiB into a file that has only kohya's metadata.
    """
    own = {key: value for key, value in metadata.items() if key.startswith("ss_")}
    if not own:
        return {}
    sha256, legacy = hashlib.sha256(), hashlib.sha256()
    begin = len(render_header(infos, own))
    for tensor in tensors.values():
        content = _content(tensor)
        sha256.update(content)
        legacy.update(content[max(_LEGACY_BEGIN - begin, 0) : max(_LEGACY_END - begin, 0)])
        begin += len(content)
    return {
        "modelspec.hash_sha256": f"0x{sha256.hexdigest()}",
        "sshs_model_hash": sha256.hexdigest(),
        "sshs_legacy_hash": legacy.hexdigest()[:8],
    }


def _split(tensor: str) -> tuple[str, str]:
    """Split a tensor name into module and role suffix; the suffix is empty if it is not a LoRA."""
    end = next((end for end in _ROLES if tensor.endswith(end)), "")
    return tensor.removesuffix(end), end


def _slot(path: Path, header: Header, tensor: str, component: str, name: str) -> TensorSlot:
    info = header.tensors[tensor]
    span = header.span(tensor)
    return TensorSlot(component, name, path.name, tensor, info.dtype, info.shape, path, *span)


def _part(
    path: Path, base: Checkpoint, slots: Mapping[str, TensorSlot], component: str, name: str
) -> LoraPart:
    where = f"LoRA `{printable(path)}`: the change of `{printable(name)}`"
    if not {"up", "down"} <= slots.keys():
        raise CheckpointError(f"{where} has only one of its two factors")
    up, down = slots["up"].shape, slots["down"].shape
    d_out, *d_in = base.slots(component, name)[0].canonical_shape
    change = (up[0], math.prod(down[1:])) if up and down else ()
    if change != (d_out, math.prod(d_in)) or math.prod(up[1:]) != down[0]:
        raise CheckpointError(
            f"{where} is {list(up)} times {list(down)}, "
            f"but the tensor of the model is {[d_out, *d_in]}",
            "give the base that it was made from",
        )
    return LoraPart(component, name, slots["up"], slots["down"], slots.get("alpha"))
