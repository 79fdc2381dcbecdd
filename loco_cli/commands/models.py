"""`loco models`: the known models, their layers, and their presence on this machine."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loco_cli.families import registry
from loco_cli.families.spec import Context, CrossAttention, Family, ModelSpec
from loco_cli.models.hub import MODEL_FILES, cached_folder
from loco_cli.models.locate import is_path, locate
from loco_cli.models.user_models import known_model, known_models


@dataclass(frozen=True)
class KnownModel:
    """
    A model, and whether its weights are on this machine.

    `name` is its alias or the last part of its path. `is_here` is found without the network.
    """

    name: str
    spec: ModelSpec
    is_here: bool

    def to_json(self) -> dict[str, Any]:
        """Return the model as an entry of `loco.models/1`."""
        return {
            "name": self.name,
            "title": self.spec.title,
            "family": self.spec.family.name,
            "hub_id": self.spec.hub_id,
            "licence": self.spec.licence,
            "n_layers": self.spec.n_layers,
            "here": self.is_here,
        }


@dataclass(frozen=True)
class LayerRow:
    """A row of the layer table: `LayerRow(8, "up_blocks.1...attn2", "OUT04", 640)`."""

    layer: int
    module_path: str
    block: str
    width: int


def list_models() -> tuple[KnownModel, ...]:
    """Return all known models."""
    return tuple(KnownModel(spec.name, spec, _is_here(spec)) for spec in known_models())


def show_model(model: str) -> KnownModel:
    """
    Return the model of an alias, or the model that the headers of a folder or file describe.

    Raises:
        UnknownName: `model` is neither an alias nor a path.
        CheckpointError: The path is not a model.
    """
    if model not in registry.names() and is_path(model):
        located = locate(model, with_pickles=True)
        return KnownModel(located.name, located.spec, is_here=True)
    if model not in registry.names():
        raise registry.unknown_model(model, ", or give a folder or a file")
    spec = known_model(model)
    return KnownModel(spec.name, spec, _is_here(spec))


def layer_table(spec: ModelSpec) -> tuple[LayerRow, ...]:
    """Return the layers in execution order, each with its block and the width of K and V."""
    return tuple(_layer_row(layer, spec.family) for layer in spec.layers)


def context_in_words(context: Context) -> str:
    """Return the source of the context of keys and values: "text_encoder (clip, last)"."""
    words = " + ".join(f"{one.component} ({one.kind}, {one.states})" for one in context.encoders)
    norm = (context.norm_cross.name,) if context.norm_cross else ()
    return " → ".join([words, *(one.name for one in context.shared), *norm])


def projections_in_words(spec: ModelSpec) -> str:
    """Return the projections that an edit changes in each layer: "to_k, to_v"."""
    projections = spec.layers[0].projections
    names = ", ".join(projection.name for projection in projections)
    return f"{names} (without biases)" if projections[0].has_bias else names


def models_document(models: tuple[KnownModel, ...]) -> dict[str, Any]:
    """Return the models as `loco.models/1`."""
    return {"schema": "loco.models/1", "models": [model.to_json() for model in models]}


def model_document(model: KnownModel) -> dict[str, Any]:
    """Return one model with its layers as `loco.model/1`."""
    spec = model.spec
    return {
        "schema": "loco.model/1",
        **model.to_json(),
        "d_text": spec.d_text,
        "context": context_in_words(spec.context),
        "projections": [projection.name for projection in spec.layers[0].projections],
        "steps": spec.steps,
        "guidance": spec.guidance,
        "resolution": spec.resolution,
        "scorer": spec.scorer,
        "published_ranges": {kind: list(span) for kind, span in spec.published_ranges.items()},
        "unreachable": list(spec.unreachable),
        "layers": [vars(row) for row in layer_table(spec)],
    }


def _layer_row(layer: CrossAttention, family: Family) -> LayerRow:
    _, block = family.block_label(layer.module_path)
    return LayerRow(layer.index, layer.module_path, block or "-", layer.projections[0].d_out)


def _is_here(spec: ModelSpec) -> bool:
    folder = registry.shipped_folder(spec)
    where = str(spec.hub_id)
    if folder is None and is_path(where):
        return Path(where).expanduser().exists()
    folder = folder or cached_folder(where, MODEL_FILES)
    return folder is not None and any(folder.glob(f"{spec.network}/*.safetensors"))
