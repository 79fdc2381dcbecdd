"""What is known of the models, and which of them are on this machine."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loco_cli.checkpoint.names import block_of
from loco_cli.models import registry
from loco_cli.models.spec import CrossAttention, ModelSpec


@dataclass(frozen=True)
class KnownModel:
    """A model, and whether its weights are on this machine: nothing is fetched to find out."""

    spec: ModelSpec
    is_here: bool

    def to_json(self) -> dict[str, Any]:
        """Return the model as an entry of `loco.models/1`."""
        return {
            "name": self.spec.name,
            "title": self.spec.title,
            "family": self.spec.family,
            "hub_id": self.spec.hub_id,
            "licence": self.spec.licence,
            "n_layers": self.spec.n_layers,
            "here": self.is_here,
        }


@dataclass(frozen=True)
class LayerRow:
    """A line of the layer table: `LayerRow(8, "up_blocks.1...attn2", "OUT04", 640)`."""

    layer: int
    module_path: str
    block: str
    width: int


def list_models() -> tuple[KnownModel, ...]:
    """Return all known models."""
    return tuple(show_model(name) for name in registry.names())


def show_model(name: str) -> KnownModel:
    """Return one model; raises UnknownName."""
    spec = registry.get(name)
    return KnownModel(spec, _is_here(spec))


def layer_table(spec: ModelSpec) -> tuple[LayerRow, ...]:
    """Return the layers in execution order, each with its block and the width of its K and V."""
    return tuple(_layer_row(layer) for layer in spec.layers)


def models_document(models: tuple[KnownModel, ...]) -> dict[str, Any]:
    """Return `loco.models/1`."""
    return {"schema": "loco.models/1", "models": [model.to_json() for model in models]}


def model_document(model: KnownModel) -> dict[str, Any]:
    """Return `loco.model/1`: one model with its layers."""
    spec = model.spec
    return {
        "schema": "loco.model/1",
        **model.to_json(),
        "d_text": spec.d_text,
        "steps": spec.steps,
        "guidance": spec.guidance,
        "resolution": spec.resolution,
        "scorer": spec.scorer,
        "published_ranges": {kind: list(span) for kind, span in spec.published_ranges.items()},
        "unreachable": list(spec.unreachable),
        "layers": [vars(row) for row in layer_table(spec)],
    }


def _layer_row(layer: CrossAttention) -> LayerRow:
    _, block = block_of("unet", layer.module_path)
    return LayerRow(layer.index, layer.module_path, block or "-", layer.projections[0].d_out)


def _is_here(spec: ModelSpec) -> bool:
    folder = registry.shipped_folder(spec)
    if folder is not None:
        return (folder / "model_index.json").is_file()
    from huggingface_hub import try_to_load_from_cache

    index = try_to_load_from_cache(spec.hub_id or "", "model_index.json")
    return isinstance(index, str) and any(Path(index).parent.glob("unet/*.safetensors"))
