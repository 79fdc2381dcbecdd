"""
The registry of families and models: `get("tiny")` is the ModelSpec of `tiny`.

The registry collects `FAMILIES` and `MODELS` from every module of this package, so a new family is
a new file. Families in another folder join it once `loco_cli.families.__path__` has that folder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from loco_cli import families as package
from loco_cli.errors import UnknownName
from loco_cli.families.spec import Family, ModelSpec, Network

_WEIGHTS = Path(__file__).parents[1] / "tiny" / "weights"
_CONFIGS = Path(__file__).parent / "configs"

# all CLIP models share this vocabulary; `configs/clip/NOTICE.md` names its source
CLIP_VOCABULARY = _CONFIGS / "clip" / "vocab.json"
CLIP_MERGES = _CONFIGS / "clip" / "merges.txt"


@dataclass(frozen=True)
class _Catalog:
    """
    All families and models by name, in display order.

    `networks`, `components` and `key_ends` are unions over all families: the kinds of networks, the
    folders of the diffusers layout, and the suffixes of key projections.
    """

    families: Mapping[str, Family]
    models: Mapping[str, ModelSpec]
    networks: tuple[Network, ...]
    components: tuple[str, ...]
    key_ends: tuple[str, ...]


def catalog() -> _Catalog:
    """Return all families and models; each module of the package is imported once."""
    return _read(tuple(package.__path__))


def family(name: str) -> Family:
    """
    Return the family with this name.

    Raises:
        UnknownName: No family has this name.
    """
    families = catalog().families
    if name not in families:
        raise UnknownName(f"unknown family `{name}`", f"choose one of {', '.join(families)}")
    return families[name]


def names() -> tuple[str, ...]:
    """Return the names of all known models, shipped models first."""
    return tuple(catalog().models)


def get(name: str, hub_ids: Mapping[str, str] | None = None) -> ModelSpec:
    """
    Return the spec of a known model.

    Args:
        name: The name of the model, such as `sdxl`.
        hub_ids: Repositories that replace the default ones, by model name.

    Raises:
        UnknownName: `name`, or a name in `hub_ids`, is not a known model.

    Example:
        `get("sd21", {"sd21": "me/sd21"}).hub_id` is `me/sd21`.
    """
    models = catalog().models
    unknown = [one for one in (name, *(hub_ids or {})) if one not in models]
    if unknown:
        raise unknown_model(unknown[0])
    spec = models[name]
    return replace(spec, hub_id=hub_ids[name]) if hub_ids and name in hub_ids else spec


def unknown_model(name: str, or_else: str = "") -> UnknownName:
    """Return the error for an unknown model name, with the nearest name or all names as a hint."""
    near = get_close_matches(name, names(), n=1, cutoff=0.8)
    choice = f"choose one of {', '.join(names())}{or_else}"
    return UnknownName(f"unknown model `{name}`", f"did you mean `{near[0]}`?" if near else choice)


def spec_for(
    family: Family,
    widths: Sequence[int],
    d_text: int,
    *,
    architecture: str | None = None,
    prediction: str | None = None,
    spacing: str | None = None,
) -> ModelSpec:
    """
    Return the spec of a checkpoint: a known model of the same shape, or one made for its family.

    Some models have tensors of equal names and shapes, such as SD 2.1 and its base, or SDXL and its
    Turbo. The metadata of the checkpoint distinguishes them. Without metadata, the first one wins.

    Args:
        family: The family of the checkpoint.
        widths: The widths of the blocks, one per entry of `family.width_tensors`.
        d_text: The width of the context that the layers read.
        architecture: The architecture in the metadata, in modelspec's terms.
        prediction: The prediction type of the scheduler: `epsilon` or `v_prediction`.
        spacing: The timestep spacing of the scheduler, used if there is no architecture.
    """
    layers = family.layers(widths)
    fitting = [
        spec
        for spec in catalog().models.values()
        if (spec.family, spec.d_text, spec.layers) == (family, d_text, layers)
    ]
    if architecture is None and spacing:
        architecture = next((one.architecture for one in fitting if one.spacing == spacing), None)
    if fitting:
        return max(
            fitting,
            key=lambda spec: (spec.architecture == architecture, spec.prediction == prediction),
        )
    model = get(family.standard)
    encoders = tuple(
        replace(encoder, width=None, n_layers=None) for encoder in model.context.encoders
    )
    return replace(
        model,
        name=family.name,
        title=family.title,
        hub_id=None,
        d_text=d_text,
        layers=layers,
        context=replace(model.context, encoders=encoders),
        licence=None,
        config=None,
    )


def shipped_folder(spec: ModelSpec) -> Path | None:
    """Return the folder of a shipped model's weights, or None for a model from the hub."""
    return _WEIGHTS / spec.name if spec.is_shipped and spec.hub_id is None else None


def config_folder(spec: ModelSpec) -> Path | None:
    """
    Return the packaged diffusers folder with the configuration of a model, or None.

    A folder without weights also lacks the vocabulary of its tokenizers, which is CLIP_VOCABULARY.
    """
    return _CONFIGS / spec.config if spec.config else shipped_folder(spec)


@lru_cache(maxsize=8)
def _read(folders: tuple[str, ...]) -> _Catalog:
    """Collect the families and models of all modules in these folders."""
    modules = [
        import_module(f"{package.__name__}.{module.name}") for module in iter_modules(folders)
    ]
    families = sorted(
        (family for module in modules for family in getattr(module, "FAMILIES", ())),
        key=lambda family: (family.order, family.name),
    )
    order = {family.name: place for place, family in enumerate(families)}
    models = sorted(
        (spec for module in modules for spec in getattr(module, "MODELS", ())),
        key=lambda spec: order[spec.family.name],
    )
    networks = tuple(dict.fromkeys(family.network for family in families))
    encoders = (encoder.component for spec in models for encoder in spec.context.encoders)
    return _Catalog(
        families={family.name: family for family in families},
        models={spec.name: spec for spec in models},
        networks=networks,
        components=tuple(
            dict.fromkeys([*(network.component for network in networks), *encoders, "vae"])
        ),
        key_ends=tuple(dict.fromkeys(family.key_end for family in families)),
    )
