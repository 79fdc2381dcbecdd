"""A made-up manifest for the pages."""

from collections.abc import Sequence

from loco_cli.manifest import (
    Base,
    EditRecord,
    Environment,
    FileRecord,
    Manifest,
    ModelRecord,
    RecipeRecord,
)

ENVIRONMENT = Environment(
    python="", torch=None, diffusers=None, transformers=None, device="cpu", dtype="float32"
)
BASE = Base(files=(FileRecord(path="a.safetensors", bytes=1, sha256="5a" * 32),), name="tiny")


def edit_record(**changes: object) -> EditRecord:
    """Return the record of an edit of Monet in layers 8 and 9."""
    record = {
        "kind": "style",
        "subject": "monet",
        "to": "painting",
        "method": "locoedit",
        "layer_range": (8, 10),
        "ridge": 0.0123,
        "tokens": "subject-to-end",
        "n_keys": 24,
    }
    return EditRecord(**{**record, **changes})


def manifest_of(
    edits: Sequence[EditRecord],
    *,
    model: str = "tiny",
    recipe: str = "loco: 1\n",
    **changes: object,
) -> Manifest:
    """Return the manifest of these edits of a base with one file."""
    fields = {"command": ("loco", "edit", "remove monet"), "preserve": ("klimt",), **changes}
    return Manifest(
        loco_version="0",
        created="",
        recipe=RecipeRecord(text=recipe, sha256="7e" * 32),
        model=ModelRecord(name=model, family="sd1"),
        base=BASE,
        edits=tuple(edits),
        tensors=(),
        environment=ENVIRONMENT,
        **fields,
    )
