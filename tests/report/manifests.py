"""A made-up manifest and a made-up strength for the pages."""

from collections.abc import Sequence

from loco_cli.manifest import (
    Base,
    EditRecord,
    Environment,
    FileRecord,
    Manifest,
    ModelRecord,
    RecipeRecord,
    Strength,
    StrengthTrial,
)

ENVIRONMENT = Environment(
    python="", torch=None, diffusers=None, transformers=None, device="cpu", dtype="float32"
)
BASE = Base(files=(FileRecord(path="a.safetensors", bytes=1, sha256="5a" * 32),), name="tiny")
MONET = {"kind": "style", "subject": "monet", "to": "painting", "method": "locoedit"}


def edit_record(**changes: object) -> EditRecord:
    """Return the record of an edit of Monet in layers 8 and 9."""
    solved = {"layer_range": (8, 10), "ridge": 0.0123, "tokens": "subject-to-end", "n_keys": 24}
    return EditRecord(**{**MONET, **solved, **changes})


def manifest_of(edits: Sequence[EditRecord], **changes: object) -> Manifest:
    """Return the manifest of these edits of a base with one file."""
    fields = {
        "loco_version": "0",
        "created": "",
        "command": ("loco", "edit", "remove monet"),
        "recipe": RecipeRecord(text=str(changes.pop("recipe", "loco: 1\n")), sha256="7e" * 32),
        "model": ModelRecord(name=str(changes.pop("model", "tiny")), family="sd1"),
        "base": BASE,
        "edits": tuple(edits),
        "preserve": ("klimt",),
        "tensors": (),
        "environment": ENVIRONMENT,
    }
    return Manifest(**{**fields, **changes})


def strength_of(
    *shares: tuple[float | None, float | None, float | None],
    layers: tuple[int, ...] = (8, 9),
    **changes: object,
) -> Strength:
    """Return a strength with a trial for each triple of forgotten, became and kept."""
    tried = tuple(
        StrengthTrial(layers=(layers,), ridge=f"{i}x", forgotten=f, became=b, kept=k, n=16)
        for i, (f, b, k) in enumerate(shares, start=1)
    )
    fields = {"target": 0.95, "seeds": (100, 101), "steps": 10, "prompts": ("a fish",)}
    return Strength(**{**fields, "tried": tried, "chosen": 0 if tried else None, **changes})
