"""
What was done to a checkpoint, as `loco.manifest/1`, and how an output holds against it.

The header of an edited file is stamped with the digest of its manifest: the SHA-256 of the
canonical JSON without `output`, `created`, `seconds` and `command`, which either depend on the
stamp or say nothing about the weights.
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
    """The edit that made the base: its manifest's digest, and its recipe's where that is known."""

    manifest: _Sha256
    recipe_sha256: _Sha256 | None = None


class Base(Record):
    """
    The checkpoint that was given, file by file.

    `left_out` are weights in other formats, pickles above all, that the output does not have and
    undoing does not bring back; `carried` those that it has and that no edit reaches.
    """

    files: tuple[FileRecord, ...]
    parent: Parent | None = None
    name: _RelativePath  # name of the file or folder
    left_out: tuple[str, ...] = ()
    carried: tuple[str, ...] = ()


class Output(Record):
    """The files that were written but the manifest; `stamped` is False after `--no-stamp`."""

    files: tuple[FileRecord, ...] = ()
    kind: Literal["checkpoint", "lora"] = "checkpoint"
    stamped: bool = True


class RecipeRecord(Record):
    """The recipe's text as it was read, and what the command line laid over it."""

    text: str
    sha256: _Sha256
    overrides: dict[str, JsonValue] = Field({})


class ModelRecord(Record):
    """
    The model by name: `ModelRecord(name="sd15", family="sd1", revision=None)`.

    `unreachable` says what of the prompt no edit of its kind reaches; `texts` is the model whose
    text encoders a UNet alone was read with.
    """

    name: str
    family: str
    revision: str | None = None
    unreachable: tuple[str, ...] = ()
    texts: str | None = None


class EditRecord(SparseRecord):
    """
    One edit of the recipe as it was solved.

    `layer_range` is None for a text-encoder edit and for a layer set, which `layers` then lists;
    `ridge` is the λ that was used. `neurons` says how many of each projection an edit of neurons
    holds; `residual` what share of the wanted change is missing, which the ridge costs and what is
    preserved beside it; `pooled` is true where what pools the prompt past the layers is edited too.
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
        """The layers of the edit, none where it is one of the text encoder."""
        return LayerSet.from_keys(self.layer_range, self.layers)


class Drift(Record):
    """
    How far an edit moves the answers to prompts that it is to leave alone, of what they were.

    The mean over the words of prompts of the preserve set, None where there is none, and over those
    of unrelated ones; `worst` is the unrelated prompt that moves most.
    """

    preserved: float | None
    unrelated: float
    worst: str
    worst_drift: float

    @classmethod
    def of(
        cls, preserved: Sequence[tuple[str, float]], unrelated: Sequence[tuple[str, float]]
    ) -> "Drift":
        """Return the drift of an edit from that of each prompt."""
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

    `ridge` is as a recipe has it, `n` how many pictures were made. A rung that could not reach the
    target any more was given up: its shares are of fewer pictures, and `kept` is None. `short` are
    the edits that fell short of the target, counted from 0.
    """

    layers: tuple[LayerSet, ...]
    ridge: str
    forgotten: float | None
    became: float | None
    kept: float | None = None
    n: int = Field(ge=0)
    short: tuple[int, ...] = ()

    def forgets(self, target: float) -> bool:
        """True if enough was forgotten and became what it should."""
        return all(one is not None and one >= target for one in (self.forgotten, self.became))

    def reaches(self, target: float) -> bool:
        """True if enough was kept too, where anything was there to be kept."""
        return self.forgets(target) and (self.kept is None or self.kept >= target)

    @property
    def edited_mean(self) -> float:
        """The harmonic mean of forgotten and became."""
        return harmonic_mean([self.forgotten or 0.0, self.became or 0.0])

    @property
    def overall_mean(self) -> float:
        """The harmonic mean of all that is known, unknown moves counted as none."""
        kept = [] if self.kept is None else [self.kept]
        return harmonic_mean([self.forgotten or 0.0, self.became or 0.0, *kept])


class Strength(Record):
    """
    A measured strength: every rung in the order of the trials, and the one taken by its index.

    `chosen` is None, and nothing was tried, where the base draws nothing of a concept that could be
    forgotten. `prompts` and `seeds` are those of the pictures, which judge no edit afterwards.
    """

    target: float
    seeds: tuple[int, ...]
    steps: int
    prompts: tuple[str, ...]
    tried: tuple[StrengthTrial, ...] = ()
    chosen: int | None = None

    @property
    def chosen_trial(self) -> StrengthTrial | None:
        """The rung that was taken."""
        return None if self.chosen is None else self.tried[self.chosen]


class TensorRecord(Record):
    """
    One edited tensor, by the name it has in its file.

    `relative_change` is |ΔW| / |W| as stored; `rounding_error` is |stored ΔW − solved ΔW| over
    |solved ΔW|, both Frobenius. `rank` is that of the solved change; a `TensorDelta` counts what
    of it stands out of the rounding, and may be less.
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
        """`file:tensor`, as the undo file has it."""
        return f"{self.file}:{self.name}"


@dataclass(frozen=True)
class TensorEdit:
    """
    How far one copy of a tensor moves: `TensorEdit("unet/a.safetensors", "...to_k.weight", "F16",
    rank=4, relative_change=0.02, rounding_error=0.001)`.

    File, name and figures are those of a `TensorRecord`. A tensor that holds several of a model's
    in one has an edit for each. `drifts` are those of the prompts that are watched.
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
        """`file:tensor`, as messages name it."""
        return f"{self.file}:{self.name}"


class Environment(Record):
    """Versions and machine that made the edit."""

    python: str
    torch: str | None
    diffusers: str | None
    transformers: str | None
    device: str
    dtype: str


class Seconds(Record):
    """The duration of each stage."""

    localize: float = 0.0
    solve: float = 0.0
    write: float = 0.0


class Manifest(SparseRecord):
    """The whole of an edit, as `loco.manifest/1`."""

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
        Return a manifest and the digest of it as it stands in its file.

        Raises:
            VerificationError: the text is no manifest; `where` names its file in the message.
        """
        try:
            document = json.loads(text, object_pairs_hook=_unique)
            return cls.model_validate(document), _digest(document)
        except InvalidRecord as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "document"
            # a key may be anything, a terminal's control sequence too
            raise VerificationError(
                f"manifest `{where}` is damaged: {repr(key)[1:-1]}: {first['msg'].lower()}"
            ) from error
        except (ValueError, RecursionError) as error:
            raise VerificationError(f"manifest `{where}` is no JSON: {error}") from error

    def digest(self) -> str:
        """Return the digest that the stamp holds."""
        return _digest(self.to_json())

    def render(self) -> str:
        """Return the manifest as its file holds it."""
        return json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n"

    def with_output(self, output: Output) -> "Manifest":
        """Return the manifest of what was written; its digest is the same."""
        return self.model_copy(update={"output": output})


class Verification(Record):
    """The verdict of `loco verify`, as `loco.verification/1`; failures in words."""

    schema_: Literal["loco.verification/1"] = Field("loco.verification/1", alias="schema")
    ok: bool
    failures: tuple[str, ...]

    @classmethod
    def of(cls, failures: "tuple[str, ...] | list[str]") -> "Verification":
        """Return the verdict on these failures."""
        return cls(ok=not failures, failures=tuple(failures))


class Restoration(Record):
    """
    A base brought back, as `loco.undo/1`; every file's hash is the one that the base had.

    `left_out` are the pickles and other weights that the base had and the output did not keep.
    """

    schema_: Literal["loco.undo/1"] = Field("loco.undo/1", alias="schema")
    restored: str
    files: tuple[FileRecord, ...]
    left_out: tuple[str, ...]


def _digest(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest document without the keys that the stamp leaves out."""
    kept = {key: value for key, value in document.items() if key not in _NOT_STAMPED}
    canonical = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)
