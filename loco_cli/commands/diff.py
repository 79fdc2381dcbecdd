"""Say what differs between two checkpoints, and whether a manifest accounts for it."""

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
    Return what differs from `a` to `b`, tensor by tensor; either may be a pickle.

    A manifest of `b`, or else of `a`, is held against the tensors that changed.

    Raises:
        RequestError: there is nothing at one of the paths.
        CheckpointError: one of them is no checkpoint, or is damaged.
        VerificationError: a manifest is there, but damaged.
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
    """Return what the manifests say: of two that of `b`, if it is not `a` alone that fits."""
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
    # a single file goes by whatever name, so its tensors' names are enough
    return {tensor.key if is_folder else tensor.name for tensor in manifest.tensors}


def _changed(
    side: str, checkpoint: Checkpoint, different: list[Compared], *, with_lone: bool
) -> set[str]:
    """Return the changed tensors by their names on one side; lone ones only within one layout."""
    changed = set()
    for compared in different:
        a, b = compared.pair.a, compared.pair.b
        if with_lone or (a and b):
            slot: TensorSlot | None = (a or b) if side == "a" else (b or a)
            assert slot
            changed.add(slot.key if checkpoint.is_folder else slot.tensor)
    return changed
