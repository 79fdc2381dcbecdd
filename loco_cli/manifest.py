"""
The manifest of an edit, `loco.manifest/1`, and the results of verifying and undoing it.

The header of an edited file has a stamp: the SHA-256 of the manifest as canonical JSON, without
`output`, `created`, `seconds` and `command`. `output` depends on the stamp. The other three keys do
not describe the weights.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, harmonic_mean
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue, StringConstraints
from pydantic import ValidationError as InvalidRecord

from loco_cli.errors import VerificationError
from loco_cli.layers import LayerSet
from loco_cli.records import Record, SparseRecord

STAMP_KEY = "loco.manifest"
VERSION_KEY = "loco.version"
_NOT_STAMPED = ("output", "created", "seconds", "command")


def _relative(path: str) -> str:
    parts = path.split("/")
    if not path or "\\" in path or "\0" in path or path[1:2] == ":" or {"", ".", ".."} & set(parts):
        raise ValueError("a path must be relative and stay in its folder")
    return path


_RelativePath = Annotated[str, AfterValidator(_relative)]
_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Count = Annotated[int, Field(ge=0)]


class FileRecord(Record):
    """A file: `FileRecord(path="unet/config.json", bytes=743, sha256="ba78...")`."""

    path: _RelativePath
    bytes: _Count
    sha256: _Sha256


class Parent(Record):
    """The edit that produced the base: the digest of its manifest, and of its recipe if known."""

    manifest: _Sha256
    recipe_sha256: _Sha256 | None = None


class Base(Record):
    """
    The base checkpoint, file by file.

    `left_out` lists weights in other formats, mostly pickles. The output lacks them, and undoing
    does not restore them. `carried` lists weights that the output has but an edit cannot change.
    """

    files: tuple[FileRecord, ...]
    parent: Parent | None = None
    name: _RelativePath  # name of the file or folder
    left_out: tuple[str, ...] = ()
    carried: tuple[str, ...] = ()


class Output(Record):
    """The written files except the manifest; `stamped` is False after `--no-stamp`."""

    files: tuple[FileRecord, ...] = ()
    kind: Literal["checkpoint", "lora"] = "checkpoint"
    stamped: bool = True


class RecipeRecord(Record):
    """The text of the recipe, and the overrides of the command line."""

    text: str
    sha256: _Sha256
    overrides: dict[str, JsonValue] = Field({})


class ModelRecord(Record):
    """
    A model: `ModelRecord(name="sd15", family="sd1", revision=None)`.

    `unreachable` names paths of the prompt into the model that an edit cannot change. `texts` is
    the model that lent its text encoders to a UNet without its own.
    """

    name: str
    family: str
    revision: str | None = None
    unreachable: tuple[str, ...] = ()
    texts: str | None = None


class EditRecord(SparseRecord):
    """
    One solved edit of the recipe.

    Attributes:
        layer_range: The layers as a half-open range; None for a text-encoder edit or a layer set.
        layers: The layers of a set that is not contiguous.
        ridge: The λ of the solve.
        n_keys: The number of keys.
        neurons: The number of neurons held in each projection.
        residual: The share of the requested change that is missing. The ridge and the preserved
            prompts cause it.
        pooled: True if the projection of the pooled embedding is edited too.
    """

    omitted_if_none = frozenset({"layers", "neurons", "residual", "pooled"})
    kind: str
    subject: str
    to: str
    method: str
    layer_range: tuple[int, int] | None
    ridge: float | None
    tokens: str | None
    n_keys: _Count
    layers: tuple[int, ...] | None = None
    neurons: _Count | None = None
    residual: float | None = None
    pooled: bool | None = None

    @property
    def layer_set(self) -> LayerSet:
        """The layers of the edit; empty for a text-encoder edit."""
        return LayerSet.from_keys(self.layer_range, self.layers)


class Drift(Record):
    """
    The relative change of an edit's values on prompts that it should not affect.

    Attributes:
        preserved: The mean over the tokens of preserved prompts; None without such prompts.
        unrelated: The mean over the tokens of unrelated prompts.
        worst: The unrelated prompt with the largest drift.
        worst_drift: The drift of that prompt.
    """

    preserved: float | None
    unrelated: float
    worst: str
    worst_drift: float

    @classmethod
    def of(
        cls, preserved: Sequence[tuple[str, float]], unrelated: Sequence[tuple[str, float]]
    ) -> "Drift":
        """Return the drift of an edit from pairs of prompt and drift."""
        worst, most = max(unrelated, key=lambda one: one[1])
        return cls(
            preserved=fmean(drift for _, drift in preserved) if preserved else None,
            unrelated=fmean(drift for _, drift in unrelated),
            worst=worst,
            worst_drift=most,
        )


class StrengthTrial(Record):
    """
    One rung: `StrengthTrial(layers=((8, 9),), ridge="0.3x", forgotten=1, became=1, kept=1, n=16)`.

    A rung stops early once it cannot reach the target. Its shares then come from fewer pictures,
    and `kept` is None.

    Attributes:
        layers: The layers of each edit.
        ridge: The ridge in recipe notation.
        n: The number of generated pictures.
        short: The indices of edits below the target.
    """

    layers: tuple[LayerSet, ...]
    ridge: str
    forgotten: float | None
    became: float | None
    kept: float | None = None
    n: int = Field(ge=0)
    short: tuple[int, ...] = ()

    def forgets(self, target: float) -> bool:
        """Return True if `forgotten` and `became` reach the target."""
        return all(one is not None and one >= target for one in (self.forgotten, self.became))

    def reaches(self, target: float) -> bool:
        """Return True if all known figures reach the target; `kept` may be unknown."""
        return self.forgets(target) and (self.kept is None or self.kept >= target)

    @property
    def edited_mean(self) -> float:
        """The harmonic mean of `forgotten` and `became`."""
        return harmonic_mean([self.forgotten or 0.0, self.became or 0.0])

    @property
    def overall_mean(self) -> float:
        """The harmonic mean of the figures; an unknown `kept` is skipped, other unknowns are 0."""
        kept = [] if self.kept is None else [self.kept]
        return harmonic_mean([self.forgotten or 0.0, self.became or 0.0, *kept])


class Strength(Record):
    """
    A measured strength: every rung in trial order, and the index of the chosen one.

    `chosen` is None if the base does not draw the concept; then `tried` is empty. The evaluation
    uses other prompts and seeds than `prompts` and `seeds`.
    """

    target: float
    seeds: tuple[int, ...]
    steps: int
    prompts: tuple[str, ...]
    tried: tuple[StrengthTrial, ...] = ()
    chosen: int | None = None

    @property
    def chosen_trial(self) -> StrengthTrial | None:
        """The chosen rung."""
        return None if self.chosen is None else self.tried[self.chosen]


class TensorRecord(Record):
    """
    One edited tensor, under its name in the file.

    `relative_change` is |ΔW| / |W| as stored, and `rounding_error` is |stored ΔW − solved ΔW| /
    |solved ΔW|, both in the Frobenius norm. `rank` is the rank of the solved change. The rank of a
    `TensorDelta` may be lower, because rounding hides small singular values.
    """

    name: str
    file: _RelativePath
    shape: tuple[_Count, ...]
    dtype: str
    sha256_before: _Sha256
    sha256_after: _Sha256
    rank: int | None
    relative_change: float
    rounding_error: float | None

    @property
    def key(self) -> str:
        """The key `file:tensor` of the undo file."""
        return f"{self.file}:{self.name}"


@dataclass(frozen=True)
class TensorEdit:
    """
    The change of one tensor: `TensorEdit("unet/a.safetensors", "...to_k.weight", "F16", rank=4,
    relative_change=0.02, rounding_error=0.001)`.

    File, name and figures mean the same as in a `TensorRecord`. A fused tensor has one edit for
    each of its parts. `drifts` has the drift of each monitored prompt.
    """

    file: str
    name: str
    dtype: str
    rank: int
    relative_change: float
    rounding_error: float
    drifts: tuple[float, ...] = ()

    @property
    def key(self) -> str:
        """The name `file:tensor` in messages."""
        return f"{self.file}:{self.name}"


class Environment(Record):
    """The software versions and the device of an edit."""

    python: str
    torch: str | None
    diffusers: str | None
    transformers: str | None
    device: str
    dtype: str


class Seconds(Record):
    """The duration of each stage in seconds."""

    localize: float = 0.0
    solve: float = 0.0
    write: float = 0.0


class Manifest(SparseRecord):
    """The complete record of an edit: `loco.manifest/1`."""

    omitted_if_none = frozenset({"drift", "strength"})
    schema_: Literal["loco.manifest/1"] = Field("loco.manifest/1", alias="schema")
    loco_version: str
    created: str
    command: tuple[str, ...]
    recipe: RecipeRecord
    model: ModelRecord
    base: Base
    output: Output = Output()
    localizations: tuple[JsonValue, ...] = ()
    preserve: tuple[JsonValue, ...] = ()
    edits: tuple[EditRecord, ...]
    drift: Drift | None = None
    strength: Strength | None = None
    tensors: tuple[TensorRecord, ...]
    environment: Environment
    seconds: Seconds = Seconds()

    @classmethod
    def parse(cls, text: str, where: str) -> tuple["Manifest", str]:
        """
        Return a manifest and its digest.

        Args:
            text: The JSON text of the manifest.
            where: The file name for error messages.

        Returns:
            The manifest, and the digest of the document as stored.

        Raises:
            VerificationError: The text is not a valid manifest.
        """
        try:
            document = json.loads(text, object_pairs_hook=_unique)
            return cls.model_validate(document), _digest(document)
        except InvalidRecord as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "document"
            # `repr` escapes control sequences in a hostile key
            raise VerificationError(
                f"manifest `{where}` is damaged: {repr(key)[1:-1]}: {first['msg'].lower()}"
            ) from error
        except (ValueError, RecursionError) as error:
            raise VerificationError(f"manifest `{where}` is not valid JSON: {error}") from error

    def digest(self) -> str:
        """Return the digest for the stamp."""
        return _digest(self.to_json())

    def render(self) -> str:
        """Return the text of the manifest file."""
        return json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n"

    def with_output(self, output: Output) -> "Manifest":
        """Return the manifest with the written files; its digest does not change."""
        return self.model_copy(update={"output": output})


class Verification(Record):
    """The result of `loco verify`: `loco.verification/1`. Each failure is a sentence."""

    schema_: Literal["loco.verification/1"] = Field("loco.verification/1", alias="schema")
    ok: bool
    failures: tuple[str, ...]

    @classmethod
    def of(cls, failures: "tuple[str, ...] | list[str]") -> "Verification":
        """Return the result for a list of failures."""
        return cls(ok=not failures, failures=tuple(failures))


class Restoration(Record):
    """
    A restored base: `loco.undo/1`. Every file has the same hash as in the base.

    `left_out` lists weights of the base that the output lacks, mostly pickles.
    """

    schema_: Literal["loco.undo/1"] = Field("loco.undo/1", alias="schema")
    restored: str
    files: tuple[FileRecord, ...]
    left_out: tuple[str, ...]


def _digest(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest document without the keys in `_NOT_STAMPED`."""
    kept = {key: value for key, value in document.items() if key not in _NOT_STAMPED}
    canonical = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key is repeated")
    return dict(pairs)
