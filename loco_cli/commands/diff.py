"""`loco diff`: compare two checkpoints, and check the differences against a manifest."""

from pathlib import Path

from loco_cli.checkpoint.compare import Compared, compare_pairs, metadata_changes, pair_slots
from loco_cli.checkpoint.layout import Checkpoint, open_checkpoint
from loco_cli.checkpoint.reader import TensorSlot
from loco_cli.diff import Counts, Diff, Side, TensorDelta, Verdict
from loco_cli.events import SILENT_EVENTS, Events
from loco_cli.families.spec import Family
from loco_cli.manifest import Manifest
from loco_cli.outputs.base import is_base
from loco_cli.outputs.paths import read_manifest


def run(a: Path, b: Path, events: Events = SILENT_EVENTS) -> Diff:
    """
    Return the differences from `a` to `b`, tensor by tensor.

    If `b` or `a` has a manifest, its list of tensors is compared with the changed ones.

    Args:
        a: The base: a folder, a safetensors file or a pickle.
        b: The edited checkpoint, in any of these forms.
        events: Receives the progress.

    Raises:
        RequestError: One of the paths does not exist.
        CheckpointError: One of the paths is not a checkpoint, or is damaged.
        VerificationError: A manifest is damaged.
    """
    left, right = (open_checkpoint(path, with_pickles=True) for path in (a, b))
    n_by_status: dict[str, int] = {}
    different = []
    pairs = pair_slots(left, right)
    for done, compared in enumerate(compare_pairs(pairs), 1):
        events.progress("comparing", done, len(pairs))
        status = compared.status or "identical"
        n_by_status[status] = n_by_status.get(status, 0) + 1
        if compared.status:
            different.append(compared)
    return Diff(
        a=_side(left),
        b=_side(right),
        counts=Counts(**n_by_status),
        tensors=tuple(_delta(compared, left.family) for compared in different),
        metadata=metadata_changes(left, right),
        manifest=_verdict(left, right, different),
    )


def _side(checkpoint: Checkpoint) -> Side:
    return Side(
        name=checkpoint.root.resolve().name,
        layout="folder" if checkpoint.is_folder else "file",
        family=checkpoint.family.name,
        files=len(checkpoint.files),
        tensors=sum(len(file.header.tensors) for file in checkpoint.files),
        bytes=sum(file.header.file_bytes for file in checkpoint.files),
    )


def _delta(compared: Compared, family: Family) -> TensorDelta:
    a, b, change = compared.pair.a, compared.pair.b, compared.change
    slot = b or a
    assert slot
    assert compared.status
    is_same_name = a is None or b is None or a.tensor == b.tensor
    block, label = family.block_of(slot.component, slot.name)
    return TensorDelta(
        name=slot.tensor if is_same_name else slot.name,
        shape=slot.shape,
        dtype=slot.dtype,
        status=compared.status,
        relative_change=change.relative if change else None,
        max_abs=change.max_abs if change else None,
        rank=change.rank if change else None,
        share_changed=change.share if change else None,
        component=slot.component,
        block=block,
        label=label,
        file=slot.file,
        canonical_name=slot.name,
    )


def _verdict(a: Checkpoint, b: Checkpoint, different: list[Compared]) -> Verdict:
    """
    Return the comparison with a manifest.

    If both sides have one, that of `b` is used, unless only that of `a` fits.
    """
    verdicts = []
    for side, checkpoint, other in (("b", b, a), ("a", a, b)):
        found = read_manifest(checkpoint.root)
        if found and found.manifest.output.kind == "checkpoint":
            listed = _listed(found.manifest, checkpoint.is_folder)
            changed = _changed(side, checkpoint, different, with_lone=a.is_folder == b.is_folder)
            one = Verdict(
                found=True,
                matches=listed == changed,
                unexpected=tuple(sorted(changed - listed)),
                missing=tuple(sorted(listed - changed)),
                side="a" if side == "a" else "b",
                is_base=None if listed == changed else is_base(found.manifest, other),
            )
            if one.matches or one.is_base:
                return one
            verdicts.append(one)
    return verdicts[0] if verdicts else Verdict(found=False)


def _listed(manifest: Manifest, is_folder: bool) -> set[str]:
    # a single file may have been renamed, so tensor names without the file name are compared
    return {tensor.key if is_folder else tensor.name for tensor in manifest.tensors}


def _changed(
    side: str, checkpoint: Checkpoint, different: list[Compared], *, with_lone: bool
) -> set[str]:
    """Return the names of the changed tensors on one side, with or without unpaired tensors."""
    changed = set()
    for compared in different:
        a, b = compared.pair.a, compared.pair.b
        if with_lone or (a and b):
            slot: TensorSlot | None = (a or b) if side == "a" else (b or a)
            assert slot
            changed.add(slot.key if checkpoint.is_folder else slot.tensor)
    return changed
