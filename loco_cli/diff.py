"""Differences between two checkpoints, tensor by tensor: the document `loco.diff/1`."""

import re
from itertools import groupby
from typing import Any, Literal

from pydantic import Field

from loco_cli.records import Record

Status = Literal["changed", "only_in_a", "only_in_b", "reshaped", "retyped"]


class Side(Record):
    """A compared checkpoint: `Side(name="sd15", layout="folder", family="sd1", files=4, ...)`."""

    name: str
    layout: Literal["folder", "file"]
    family: str
    files: int
    tensors: int
    bytes: int


class Counts(Record):
    """The number of tensors of each status."""

    identical: int = 0
    changed: int = 0
    only_in_a: int = 0
    only_in_b: int = 0
    reshaped: int = 0
    retyped: int = 0


class TensorDelta(Record):
    """
    One tensor that differs.

    Attributes:
        name: The name in both files, or the canonical name if the files use different names.
        canonical_name: The name in diffusers.
        file: The file in B, or in A if B lacks the tensor.
        relative_change: |B − A| / |A|, Frobenius norm.
        max_abs: The largest absolute difference of an element.
        rank: The number of singular values of B − A above the rounding error of the dtype; None
            also if more than 2^25 elements changed.
        share_changed: The share of elements that differ.

    A figure is None if it does not apply or is not finite.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    status: Status
    relative_change: float | None = None
    max_abs: float | None = None
    rank: int | None = None
    share_changed: float | None = None
    component: str
    block: str
    label: str | None
    file: str
    canonical_name: str

    @property
    def name_in_block(self) -> str:
        """The canonical name without its block: `...attn2.to_k.weight`."""
        return self.canonical_name.removeprefix(f"{self.block}.")

    def sort_key(self) -> tuple[Any, ...]:
        """Return a sort key for the model order: component, down, mid, up, then name."""
        parts = re.split(r"(\d+)", self.canonical_name)
        name_parts = tuple(int(p) if p.isdecimal() else p for p in parts)
        return (self.component, self.label or "", self.block, name_parts)


class Verdict(Record):
    """
    The comparison of the changed tensors with the list in a manifest.

    Attributes:
        found: True if one of the two checkpoints has a manifest.
        matches: True if exactly the listed tensors changed; None without a manifest.
        unexpected: Tensors that changed but are not listed.
        missing: Tensors that are listed but did not change.
        side: The checkpoint that has the manifest.
        is_base: True if the other checkpoint is the base of the manifest. It is None if the
            tensors match, or if the layouts differ.
    """

    found: bool
    matches: bool | None = None
    unexpected: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    side: Literal["a", "b"] | None = None
    is_base: bool | None = None


class Diff(Record):
    """All differences: `loco.diff/1`. `metadata` maps file and key to the values in A and B."""

    schema_: Literal["loco.diff/1"] = Field("loco.diff/1", alias="schema")
    a: Side
    b: Side
    counts: Counts
    tensors: tuple[TensorDelta, ...]
    metadata: dict[str, dict[str, str | None]]
    manifest: Verdict

    @property
    def is_same(self) -> bool:
        """True if all tensors are identical; metadata is ignored."""
        return not self.tensors

    def by_block(self) -> tuple[tuple[TensorDelta, ...], ...]:
        """Return the tensors in model order, grouped by block."""
        ordered = sorted(self.tensors, key=TensorDelta.sort_key)
        blocks = groupby(ordered, key=lambda tensor: (tensor.component, tensor.block))
        return tuple(tuple(tensors) for _, tensors in blocks)
