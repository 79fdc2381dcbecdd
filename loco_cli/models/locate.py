"""Models on this machine, located by alias, path or hub id."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from loco_cli.checkpoint.files import is_pickle, is_weights
from loco_cli.checkpoint.layout import Checkpoint, open_checkpoint
from loco_cli.checkpoint.pickles import PICKLE_HINT
from loco_cli.errors import CheckpointError, EditError, LocoError, RequestError, printable
from loco_cli.families import registry
from loco_cli.families.spec import ModelSpec
from loco_cli.models.hub import MODEL_FILES, cached_folder, fetch
from loco_cli.models.user_models import known_model, known_models, user_models_file

MAX_STEPS = 1000  # noise levels in the training of Stable Diffusion
_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
_MODELSPEC = ("modelspec.architecture", "modelspec.prediction_type")
_HUB_HINT = "give the path of a folder or `.safetensors` file"


@dataclass(frozen=True)
class _ModelPath:
    """The folder or file of a model: `_ModelPath("sd15", Path("/cache/..."), "39593d5")`."""

    name: str
    path: Path
    revision: str | None = None


@dataclass(frozen=True)
class LocatedModel:
    """
    A model on this machine: `locate("tiny")`.

    Args:
        name: The user's name for it, or the last part of its path.
        spec: Its architecture.
        checkpoint: Its files.
        revision: The commit on the hub, None for a model from elsewhere.
    """

    name: str
    spec: ModelSpec
    checkpoint: Checkpoint
    revision: str | None = None

    @property
    def path(self) -> Path:
        """The folder or the file of the model."""
        return self.checkpoint.root

    @cached_property
    def config(self) -> Path:
        """
        The folder with configuration and tokenizer: the model's own, or a packaged one.

        A single file needs a packaged one, which has no vocabulary. Raises CheckpointError if no
        packaged configuration fits.
        """
        if self.checkpoint.is_folder:
            return self.path
        folder = registry.config_folder(self.spec)
        if folder is None:
            raise CheckpointError(
                f"`{printable(self.path)}` is a single file, and no known configuration has its "
                "widths",
                "give the diffusers folder of the model",
            )
        return folder

    @property
    def has_encoders(self) -> bool:
        """True if the checkpoint contains all of its text encoders."""
        encoders = self.spec.context.encoders
        return {encoder.component for encoder in encoders} <= self.checkpoint.components

    @property
    def borrowed_from(self) -> str | None:
        """The name of the model that lends its text encoders, None if the model has its own."""
        return None if self.has_encoders else self.encoder_model.name

    @property
    def d_states(self) -> int:
        """The width of the states that enter the network, before any shared map."""
        shared = self.spec.context.shared
        if not shared:
            return self.spec.d_text
        return self.checkpoint.slots(self.spec.network, f"{shared[0].name}.weight")[0].shape[-1]

    @cached_property
    def encoder_model(self) -> "LocatedModel":
        """
        The model whose text encoders encode the prompts: this one, if it has them.

        A bare UNet borrows the encoders of the diffusers folder around it. Otherwise it borrows
        them from a known model of the same family and width on this machine.

        Raises:
            EditError: This machine has no such model.
            CheckpointError: The model has encoders of its own, but in unsupported files.
        """
        if self.has_encoders:
            return self
        self._check_formats()
        for lender in _lenders(self.path, self.spec):
            is_kin = lender.spec.family == self.spec.family and lender.d_states == self.d_states
            if is_kin and lender.has_encoders:
                return lender
            if lender.path in self.path.absolute().parents:
                lender._check_formats()
        raise EditError(
            f"`{printable(self.path)}` lacks a text encoder, so its prompts cannot be encoded",
            f"give the whole checkpoint, or add the path of one to `{user_models_file()}`, "
            f"such as `{self.spec.family.standard}: /models/whole.safetensors`",
        )

    def _check_formats(self) -> None:
        """Raise CheckpointError if a text encoder exists only in files other than safetensors."""
        for encoder in self.spec.context.encoders:
            if encoder.component in self.checkpoint.components:
                continue
            for entry in self.checkpoint.entries:
                if entry.folder == encoder.component and is_weights(entry.source):
                    raise CheckpointError(
                        f"`{printable(self.path)}` has its {encoder.component} only in "
                        f"`{printable(entry.path)}`, an unsupported format, and loco does not use "
                        "the encoder of another model instead",
                        PICKLE_HINT if is_pickle(entry.source) else "convert it to safetensors",
                    )


def locate(model: str, *, with_pickles: bool = False) -> LocatedModel:
    """
    Find a model and read its headers.

    Args:
        model: An alias, a folder, a single file or a hub id.
        with_pickles: Accept pickles too, for commands that only inspect tensors.

    Returns:
        The model with its architecture; no tensor is loaded.

    Raises:
        UnknownName: `model` is none of these.
        ModelUnavailable: The model is not on this machine and cannot be downloaded.
        CheckpointError: The files are not a model, or not the model of the alias.

    Example:
        >>> locate("tiny").spec.n_layers
        16
    """
    place = find_model_path(model)
    checkpoint = open_checkpoint(place.path, with_pickles=with_pickles)
    spec = _spec_of(checkpoint)
    named = _named(model)
    if named:
        _check_alias(checkpoint, spec, named)
        spec = named
    return LocatedModel(place.name, spec, checkpoint, place.revision)


def find_model_path(model: str) -> _ModelPath:
    """Return the path of a model of any architecture, without reading its files."""
    if model in registry.names():
        return _by_alias(known_model(model))
    path = _expanded(model)
    if is_path(model):
        return _ModelPath(path.stem if path.suffix in _SUFFIXES else path.absolute().name, path)
    if "/" in model:
        root = _from_hub(model, tuple(network.component for network in registry.catalog().networks))
        return _ModelPath(model, root, root.name)
    or_else = ", or give a folder, a `.safetensors` file or a hub id"
    raise registry.unknown_model(model, or_else)


def is_path(model: str) -> bool:
    """Return True if a model that is not an alias looks like a path, or exists as one."""
    path = _expanded(model)
    is_spelled = path.suffix in _SUFFIXES or model.startswith((".", "/", "~"))
    return bool(model) and (is_spelled or model.count("/") > 1 or _exists(path))


def _spec_of(checkpoint: Checkpoint) -> ModelSpec:
    """
    Return the architecture of a checkpoint.

    The architecture comes from a known model with the same layers and widths, or else from the
    tensors.
    """
    family = checkpoint.family
    widths = [
        checkpoint.slots(checkpoint.network, name)[0].canonical_shape[0]
        for name in family.width_tensors
    ]
    spec = registry.spec_for(family, widths, checkpoint.d_text, **_declared(checkpoint))
    for name, shape in spec.tensor_shapes().items():
        actual = checkpoint.slots(checkpoint.network, name)[0].canonical_shape
        if actual != shape:
            raise CheckpointError(
                f"tensor `{name}` of `{printable(checkpoint.root)}` has shape {list(actual)}, "
                f"but its block implies {list(shape)}"
            )
    return spec


def _declared(checkpoint: Checkpoint) -> dict[str, str | None]:
    """Return the entries of metadata and scheduler that distinguish models of one shape."""
    metadata = [file.header.metadata for file in checkpoint.files]
    architecture, prediction = (
        next((entries[key] for entries in metadata if key in entries), None) for key in _MODELSPEC
    )
    scheduler = _scheduler(checkpoint)
    prediction = "v_prediction" if prediction == "v" else prediction
    return {
        "architecture": architecture,
        "prediction": scheduler.get("prediction_type") or prediction,
        "spacing": scheduler.get("timestep_spacing"),
    }


def _scheduler(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the scheduler configuration of a folder, empty if there is none."""
    path = checkpoint.root / "scheduler" / "scheduler_config.json"
    if not checkpoint.is_folder or not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def check_components(located: LocatedModel) -> None:
    """Raise CheckpointError if a checkpoint lacks a component that generates images."""
    missing = [part for part in located.spec.parts if part not in located.checkpoint.components]
    if missing:
        raise CheckpointError(
            f"`{printable(located.path)}` has no {' and no '.join(missing)}, so it cannot "
            "generate images",
            "give the whole checkpoint; `loco edit` with `--layers` needs no images",
        )


def _named(model: str) -> ModelSpec | None:
    """Return the known model with an alias or a hub id, or None."""
    if model not in registry.names() and is_path(model):
        return None
    return next((known for known in known_models() if model in (known.name, known.hub_id)), None)


def _check_alias(checkpoint: Checkpoint, spec: ModelSpec, named: ModelSpec) -> None:
    """Raise CheckpointError if a checkpoint does not have the shapes of its alias."""
    shapes, expected = spec.tensor_shapes(), named.tensor_shapes()
    if shapes == expected:
        return
    what = f"`{printable(checkpoint.root)}` is not `{named.name}`"
    hint = f"it looks like {spec.title}; use its path as the model"
    if shapes.keys() != expected.keys() or spec.family != named.family:
        raise CheckpointError(
            f"{what}: its family is `{spec.family.name}` with {spec.n_layers} layers, but the "
            f"family of {named.title} is `{named.family.name}` with {named.n_layers}",
            hint,
        )
    name = next(name for name in expected if shapes[name] != expected[name])
    raise CheckpointError(
        f"{what}: tensor `{name}` has shape {list(shapes[name])}, "
        f"but {list(expected[name])} in {named.title}",
        hint,
    )


def _by_alias(spec: ModelSpec) -> _ModelPath:
    shipped = registry.shipped_folder(spec)
    if shipped:
        return _ModelPath(spec.name, shipped)
    location = str(spec.hub_id)
    if is_path(location):
        return _ModelPath(spec.name, _expanded(location))
    hint = f"{_HUB_HINT}, or set another location for `{spec.name}` in `{user_models_file()}`"
    root = _from_hub(location, (spec.network,), hint)
    return _ModelPath(spec.name, root, root.name)


def _lenders(path: Path, spec: ModelSpec) -> Iterator[LocatedModel]:
    """Yield models on this machine that may lend text encoders to a UNet, the best match first."""
    for folder in path.absolute().parents[:2]:  # the UNet can be `unet/` or a file in it
        if (folder / "model_index.json").is_file() and (lender := _read(folder.name, folder)):
            yield lender
    relatives = (known for known in known_models() if known.family == spec.family)
    for known in sorted(relatives, key=lambda known: known.name != spec.name):
        location = str(known.hub_id)
        here = registry.shipped_folder(known) or (
            _expanded(location) if is_path(location) else cached_folder(location, MODEL_FILES)
        )
        if here and (lender := _read(known.name, here)):
            yield lender


def _read(name: str, path: Path) -> LocatedModel | None:
    """Return the model at `path`, or None if it is not readable."""
    try:
        checkpoint = open_checkpoint(path)
        return LocatedModel(name, _spec_of(checkpoint), checkpoint)
    except LocoError:
        return None


def _from_hub(hub_id: str, networks: Iterable[str], hint: str = _HUB_HINT) -> Path:
    needed = tuple(f"{network}/*.safetensors" for network in networks)
    return fetch(hub_id, MODEL_FILES, needed=needed, role="model", hint=hint)


def _expanded(model: str) -> Path:
    try:
        return Path(model).expanduser()
    except RuntimeError:  # `~name` of an unknown user
        return Path(model)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a text can be longer than a file name may be
        return False


def check_steps(steps: int | None) -> None:
    """Raise RequestError if a number of steps exceeds the noise levels of a model."""
    if steps and steps > MAX_STEPS:
        raise RequestError(f"{steps} steps exceed the maximum of {MAX_STEPS}")
