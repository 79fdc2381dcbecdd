"""A model by any of its names: what it is, and where its files are on this machine."""

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

MAX_STEPS = 1000  # of noise that a Stable Diffusion was trained with
_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
_MODELSPEC = ("modelspec.architecture", "modelspec.prediction_type")
_HUB_HINT = "give the path of a folder or `.safetensors` file"


@dataclass(frozen=True)
class _ModelPath:
    """Where a model is: `_ModelPath("sd15", Path("/cache/..."), "39593d5")`, a folder or a file."""

    name: str
    path: Path
    revision: str | None = None


@dataclass(frozen=True)
class LocatedModel:
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

        A packaged one has no vocabulary of its own. Raises CheckpointError where there is none.
        """
        if self.checkpoint.is_folder:
            return self.path
        folder = registry.config_folder(self.spec)
        if folder is None:
            raise CheckpointError(
                f"`{printable(self.path)}` is a single file of unknown widths: "
                "no configuration fits it",
                "give the diffusers folder of the model",
            )
        return folder

    @property
    def has_encoders(self) -> bool:
        """Whether the checkpoint has all of its text encoders."""
        encoders = self.spec.context.encoders
        return {encoder.component for encoder in encoders} <= self.checkpoint.components

    @property
    def borrowed_from(self) -> str | None:
        """The name of the model whose text encoders it is read with; None if it has its own."""
        return None if self.has_encoders else self.encoder_model.name

    @property
    def d_states(self) -> int:
        """How wide the states are that the network is given, before any map of its own."""
        shared = self.spec.context.shared
        if not shared:
            return self.spec.d_text
        return self.checkpoint.slots(self.spec.network, f"{shared[0].name}.weight")[0].shape[-1]

    @cached_property
    def encoder_model(self) -> "LocatedModel":
        """
        The model whose text encoders it is read with: itself, if it has them.

        A UNet alone borrows those of the diffusers folder that it lies in, else of a known model
        of its family and width that is on this machine.

        Raises:
            EditError: there is none.
            CheckpointError: it has encoders of its own, in files that are not read.
        """
        if self.has_encoders:
            return self
        self._check_read()
        for lender in _lenders(self.path, self.spec):
            is_kin = lender.spec.family == self.spec.family and lender.d_states == self.d_states
            if is_kin and lender.has_encoders:
                return lender
            if lender.path in self.path.absolute().parents:
                lender._check_read()
        raise EditError(
            f"`{printable(self.path)}` has not all of its text encoders, "
            "and without them no prompt can be read",
            f"give the whole checkpoint, or name the place of one in `{user_models_file()}`, "
            f"such as `{self.spec.family.standard}: /models/whole.safetensors`",
        )

    def _check_read(self) -> None:
        """Raise CheckpointError where a text encoder is there, and in no safetensors file."""
        for encoder in self.spec.context.encoders:
            if encoder.component in self.checkpoint.components:
                continue
            for entry in self.checkpoint.entries:
                if entry.folder == encoder.component and is_weights(entry.source):
                    raise CheckpointError(
                        f"`{printable(self.path)}` has its {encoder.component} in "
                        f"`{printable(entry.path)}` only, which is not read, and prompts are not "
                        "encoded with that of another model",
                        PICKLE_HINT if is_pickle(entry.source) else "convert it to safetensors",
                    )


def locate(model: str, *, with_pickles: bool = False) -> LocatedModel:
    """
    Return the model of an alias, a folder, a single file or a hub id.

    Only headers are read, with `with_pickles` also those of what is only to be looked at.

    Raises:
        UnknownName, ModelUnavailable: there is no such model, or none within reach.
        CheckpointError: what is there is no model, or not the one that the alias names.
    """
    place = find_model_path(model)
    checkpoint = open_checkpoint(place.path, with_pickles=with_pickles)
    spec = _spec_of(checkpoint)
    named = _named(model)
    if named:
        _check_is(checkpoint, spec, named)
        spec = named
    return LocatedModel(place.name, spec, checkpoint, place.revision)


def find_model_path(model: str) -> _ModelPath:
    """Return where a model is, whatever its architecture; nothing of it is read."""
    if model in registry.names():
        return _by_alias(known_model(model))
    path = _expanded(model)
    if is_path(model):
        return _ModelPath(path.stem if path.suffix in _SUFFIXES else path.absolute().name, path)
    if "/" in model:
        root = _from_hub(model, tuple(one.component for one in registry.catalog().networks))
        return _ModelPath(model, root, root.name)
    or_else = ", or give a folder, a `.safetensors` file or a hub id"
    raise registry.unknown_model(model, or_else)


def is_path(model: str) -> bool:
    """Whether a model that is no alias is spelled as a path, or is one that exists."""
    path = _expanded(model)
    is_spelled = path.suffix in _SUFFIXES or model.startswith((".", "/", "~"))
    return bool(model) and (is_spelled or model.count("/") > 1 or _exists(path))


def _spec_of(checkpoint: Checkpoint) -> ModelSpec:
    """
    Return what is known of a checkpoint's architecture.

    That of a known model with the same layers and widths, else one read off its own tensors.
    """
    family = checkpoint.family
    widths = [
        checkpoint.slots(checkpoint.network, name)[0].canonical_shape[0]
        for name in family.width_tensors
    ]
    spec = registry.spec_for(family, widths, checkpoint.d_text, **_declared(checkpoint))
    for name, shape in spec.tensor_shapes().items():
        found = checkpoint.slots(checkpoint.network, name)[0].canonical_shape
        if found != shape:
            raise CheckpointError(
                f"tensor `{name}` of `{printable(checkpoint.root)}` is {list(found)}, "
                f"its block says {list(shape)}"
            )
    return spec


def _declared(checkpoint: Checkpoint) -> dict[str, str | None]:
    """Return the words of metadata and scheduler by which models of one shape are told apart."""
    metadata = [file.header.metadata for file in checkpoint.files]
    architecture, prediction = (
        next((one[key] for one in metadata if key in one), None) for key in _MODELSPEC
    )
    scheduler = _scheduler(checkpoint)
    prediction = "v_prediction" if prediction == "v" else prediction
    return {
        "architecture": architecture,
        "prediction": scheduler.get("prediction_type") or prediction,
        "spacing": scheduler.get("timestep_spacing"),
    }


def _scheduler(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what a folder says of its sampler, nothing where it says nothing."""
    path = checkpoint.root / "scheduler" / "scheduler_config.json"
    if not checkpoint.is_folder or not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def check_components(located: LocatedModel) -> None:
    """Raise CheckpointError where a checkpoint lacks a component that pictures need."""
    missing = [part for part in located.spec.parts if part not in located.checkpoint.components]
    if missing:
        raise CheckpointError(
            f"`{printable(located.path)}` has no {' and no '.join(missing)}, so it makes no "
            "pictures",
            "give the whole checkpoint; `loco edit` with `--layers` needs no pictures",
        )


def _named(model: str) -> ModelSpec | None:
    """Return the known model that an alias or a hub id names."""
    if model not in registry.names() and is_path(model):
        return None
    return next((one for one in known_models() if model in (one.name, one.hub_id)), None)


def _check_is(checkpoint: Checkpoint, spec: ModelSpec, named: ModelSpec) -> None:
    """Raise CheckpointError where a checkpoint has not the shape of the model it is called."""
    shapes, wanted = spec.tensor_shapes(), named.tensor_shapes()
    if shapes == wanted:
        return
    what = f"`{printable(checkpoint.root)}` is no `{named.name}`"
    hint = f"this looks like {spec.title}; give the path itself as the model"
    if shapes.keys() != wanted.keys() or spec.family != named.family:
        raise CheckpointError(
            f"{what}: it is of family `{spec.family.name}` with {spec.n_layers} layers, "
            f"{named.title} of `{named.family.name}` with {named.n_layers}",
            hint,
        )
    name = next(name for name in wanted if shapes[name] != wanted[name])
    raise CheckpointError(
        f"{what}: tensor `{name}` is {list(shapes[name])}, "
        f"in {named.title} it is {list(wanted[name])}",
        hint,
    )


def _by_alias(spec: ModelSpec) -> _ModelPath:
    shipped = registry.shipped_folder(spec)
    if shipped:
        return _ModelPath(spec.name, shipped)
    where = str(spec.hub_id)
    if is_path(where):
        return _ModelPath(spec.name, _expanded(where))
    elsewhere = f"{_HUB_HINT}, or name another place for `{spec.name}` in `{user_models_file()}`"
    root = _from_hub(where, (spec.network,), elsewhere)
    return _ModelPath(spec.name, root, root.name)


def _lenders(path: Path, spec: ModelSpec) -> Iterator[LocatedModel]:
    """Yield the models that a UNet alone may belong to, the likeliest first; none is fetched."""
    for folder in path.absolute().parents[:2]:  # of `unet/`, and of a file in it
        if (folder / "model_index.json").is_file() and (found := _read(folder.name, folder)):
            yield found
    kin = (one for one in known_models() if one.family == spec.family)
    for one in sorted(kin, key=lambda one: one.name != spec.name):
        where = str(one.hub_id)
        here = registry.shipped_folder(one) or (
            _expanded(where) if is_path(where) else cached_folder(where, MODEL_FILES)
        )
        if here and (found := _read(one.name, here)):
            yield found


def _read(name: str, path: Path) -> LocatedModel | None:
    """Return the model at `path`, None where it cannot be read."""
    try:
        checkpoint = open_checkpoint(path)
        return LocatedModel(name, _spec_of(checkpoint), checkpoint)
    except LocoError:
        return None


def _from_hub(hub_id: str, networks: Iterable[str], hint: str = _HUB_HINT) -> Path:
    needed = tuple(f"{network}/*.safetensors" for network in networks)
    return fetch(hub_id, MODEL_FILES, needed=needed, what="model", hint=hint)


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


def check_steps(steps: int | None) -> None:
    """Raise RequestError for more steps than there are."""
    if steps and steps > MAX_STEPS:
        raise RequestError(f"{steps} steps are asked for, a model has at most {MAX_STEPS}")
