"""The difference between two checkpoints, tensor by tensor, as `loco.diff/1`."""

import re
from itertools import groupby
from typing import Any, Literal

from pydantic import Field

from loco_cli.records import Record

Status = Literal["changed", "only_in_a", "only_in_b", "reshaped", "retyped"]


class Side(Record):
    """One of the two: `Side(name="sd15", layout="folder", family="sd1", files=4, ...)`."""

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
    One tensor that is not identical.

    `name` is its name in both files, or the name that diffusers gives it where they differ, which
    is `canonical_name` in any case; `file` is B's, or A's where B has none. `relative_change` is
    |B − A| / |A|, `rank` the number of singular values of B − A above what rounding to the dtype
    alone would leave, `share_changed` the share of elements that differ. A figure is null where it
    does not apply or is not finite; the rank also where more than 2^25 elements changed.
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
        """The canonical name without that of its block: `...attn2.to_k.weight`."""
        return self.canonical_name.removeprefix(f"{self.block}.")

    def place(self) -> tuple[Any, ...]:
        """Return a sort key in the order of the model: component, down, mid, up, then by name."""
        parts = re.split(r"(\d+)", self.canonical_name)
        numbers_as_such = tuple(int(p) if p.isdecimal() else p for p in parts)
        return (self.component, self.label or "", self.block, numbers_as_such)


class Verdict(Record):
    """
    The verdict on whether the tensors that changed are those of a manifest.

    `unexpected` changed without being listed, `missing` are listed and did not change; `side` is
    where the manifest was found. `matches` is null where there is none. `is_base` tells whether the
    other side is the base that the manifest was written for; it is asked where they do not match,
    and null where the two have other layouts.
    """

    found: bool
    matches: bool | None = None
    unexpected: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    side: Literal["a", "b"] | None = None
    is_base: bool | None = None


class Diff(Record):
    """Everything that differs, as `loco.diff/1`; `metadata` is file and key → what A and B say."""

    schema_: Literal["loco.diff/1"] = Field("loco.diff/1", alias="schema")
    a: Side
    b: Side
    counts: Counts
    tensors: tuple[TensorDelta, ...]
    metadata: dict[str, dict[str, str | None]]
    manifest: Verdict

    @property
    def is_same(self) -> bool:
        """True if all tensors are identical; metadata does not count."""
        return not self.tensors

    def by_block(self) -> tuple[tuple[TensorDelta, ...], ...]:
        """Return the tensors in the order of the model, those of one block together."""
        ordered = sorted(self.tensors, key=TensorDelta.place)
        blocks = groupby(ordered, key=lambda tensor: (tensor.component, tensor.block))
        return tuple(tuple(tensors) for _, tensors in blocks)
