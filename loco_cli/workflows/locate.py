"""A model by any of its names: what it is, and where its files are on this machine."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from loco_cli.checkpoint.header import shown
from loco_cli.checkpoint.layout import Checkpoint, open_checkpoint
from loco_cli.errors import CheckpointError, UnknownName
from loco_cli.models import registry
from loco_cli.models.spec import ModelSpec
from loco_cli.models.stable_diffusion import sd1_layers
from loco_cli.workflows.hub import CONFIG_FILES, MODEL_FILES, fetch

_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
_HUB_HINT = "give the path of a folder or `.safetensors` file, or connect to the network"


@dataclass(frozen=True)
class Place:
    """Where a model is: `Place("sd15", Path("/cache/..."), "39593d5")`, a folder or a file."""

    name: str
    path: Path
    revision: str | None = None


@dataclass(frozen=True)
class Located:
    """
    A model that was found: `locate("tiny")`.

    `name` is what the user called it (a path's last part), `revision` the hub's commit, if it came
    from there.
    """

    name: str
    spec: ModelSpec
    checkpoint: Checkpoint
    revision: str | None = None

    @property
    def path(self) -> Path:
        """Where the model is: a folder, or one file."""
        return self.checkpoint.root

    @cached_property
    def config(self) -> Path:
        """
        A folder with configuration and tokenizer: its own, or for a single file its model's.

        Raises CheckpointError or ModelUnavailable where there is none.
        """
        if self.checkpoint.is_folder:
            return self.path
        shipped = registry.shipped_folder(self.spec)
        if shipped:
            return shipped
        hint = "give the diffusers folder of the model"
        if self.spec.hub_id is None:
            raise CheckpointError(
                f"`{shown(self.path)}` is a single file of unknown widths: "
                "no configuration fits it",
                hint,
            )
        return fetch(
            self.spec.hub_id,
            CONFIG_FILES,
            needed="text_encoder/config.json",
            what="the configuration of",
            hint=hint,
        )


def locate(model: str) -> Located:
    """
    Return the model of an alias, a folder, a single file or a hub id.

    Only headers are read. Raises UnknownName, ModelUnavailable or CheckpointError.
    """
    place = find(model)
    checkpoint = open_checkpoint(place.path)
    spec = registry.get(model) if model in registry.names() else spec_of(checkpoint)
    return Located(place.name, spec, checkpoint, place.revision)


def find(model: str) -> Place:
    """Return where a model is, whatever its architecture; nothing of it is read."""
    if model in registry.names():
        return _by_alias(registry.get(model))
    path = _expanded(model)
    is_path = path.suffix in _SUFFIXES or model.startswith((".", "/", "~")) or model.count("/") > 1
    if model and (is_path or _exists(path)):
        return Place(path.stem if path.suffix in _SUFFIXES else path.absolute().name, path)
    if "/" in model:
        root = _from_hub(model)
        return Place(model, root, root.name)
    raise UnknownName(
        f"unknown model `{model}`",
        f"choose one of {', '.join(registry.names())}, "
        "or give a folder, a `.safetensors` file or a hub id",
    )


def spec_of(checkpoint: Checkpoint) -> ModelSpec:
    """
    Return what is known of a checkpoint's architecture.

    That of a known model with the same layers and widths, else one read off its own tensors.
    """
    if checkpoint.family != "sd1":
        raise CheckpointError(
            f"`{shown(checkpoint.root)}` is of family `{checkpoint.family}`, "
            "which loco can compare but not edit yet"
        )
    w0, w1, w2, w3 = (
        checkpoint.slots("unet", f"down_blocks.{i}.resnets.0.conv1.weight")[0].canonical_shape[0]
        for i in range(4)
    )
    layers = sd1_layers((w0, w1, w2, w3))
    for spec in map(registry.get, registry.names()):
        if (spec.family, spec.d_text, spec.layers) == ("sd1", checkpoint.d_text, layers):
            return spec
    return replace(
        registry.get("sd15"),
        name="sd1",
        title="Stable Diffusion 1.x",
        hub_id=None,
        d_text=checkpoint.d_text,
        layers=layers,
    )


def _by_alias(spec: ModelSpec) -> Place:
    shipped = registry.shipped_folder(spec)
    if shipped:
        return Place(spec.name, shipped)
    root = _from_hub(str(spec.hub_id))
    return Place(spec.name, root, root.name)


def _from_hub(hub_id: str) -> Path:
    return fetch(hub_id, MODEL_FILES, needed="unet/*.safetensors", what="model", hint=_HUB_HINT)


def _expanded(model: str) -> Path:
    try:
        return Path(model).expanduser()
    except RuntimeError:  # `~` of somebody who is not there
        return Path(model)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # words can be longer than any file name
        return False
