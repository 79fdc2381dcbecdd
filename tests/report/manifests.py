"""A manifest of an edit that was never made, for pages to show."""

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


def manifest_of(
    edits: Sequence[EditRecord],
    *,
    model: str = "tiny",
    recipe: str = "loco: 1\n",
    **changes: object,
) -> Manifest:
    """Return the manifest of these edits, as they would be of a file with one tensor."""
    told = {"command": ("loco", "edit", "remove monet"), "preserve": ("klimt",), **changes}
    return Manifest(
        loco_version="0",
        created="",
        recipe=RecipeRecord(text=recipe, sha256="7e" * 32),
        model=ModelRecord(name=model, family="sd1"),
        base=BASE,
        edits=tuple(edits),
        tensors=(),
        environment=ENVIRONMENT,
        **told,
    )
