"""
Families and models by name: `get("tiny")` is its ModelSpec, `names()` are all there are.

Every module of this package that has `FAMILIES` is read, and its `MODELS`: a new family is a new
file. A package may be spread over folders, and one that is appended to `loco_cli.families.__path__`
takes part as if it were this one.
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

# every CLIP model has this vocabulary; where it comes from stands in `configs/clip/NOTICE.md`
CLIP_VOCABULARY = _CONFIGS / "clip" / "vocab.json"
CLIP_MERGES = _CONFIGS / "clip" / "merges.txt"


@dataclass(frozen=True)
class _Catalog:
    """
    The families of the package and their models, by name, in the order of lists.

    `networks`, `components` and `key_ends` are those of any family: kinds of networks, folders of
    the diffusers layout, ends of the names of key projections.
    """

    families: Mapping[str, Family]
    models: Mapping[str, ModelSpec]
    networks: tuple[Network, ...]
    components: tuple[str, ...]
    key_ends: tuple[str, ...]


def catalog() -> _Catalog:
    """Return all families and models; each module of the package is read once."""
    return _read(tuple(package.__path__))


def family(name: str) -> Family:
    """Return the family that documents call by this name; raises UnknownName."""
    families = catalog().families
    if name not in families:
        raise UnknownName(f"unknown family `{name}`", f"choose one of {', '.join(families)}")
    return families[name]


def names() -> tuple[str, ...]:
    """Return the names of all known models, the shipped ones first."""
    return tuple(catalog().models)


def get(name: str, hub_ids: Mapping[str, str] | None = None) -> ModelSpec:
    """
    Return the spec of a name, from the hub repository that `hub_ids` has for it, if any.

    Raises UnknownName, also where `hub_ids` names a model that is not known.
    """
    models = catalog().models
    unknown = [one for one in (name, *(hub_ids or {})) if one not in models]
    if unknown:
        raise unknown_model(unknown[0])
    spec = models[name]
    return replace(spec, hub_id=hub_ids[name]) if hub_ids and name in hub_ids else spec


def unknown_model(name: str, or_else: str = "") -> UnknownName:
    """Return the error of a name that no registry holds: the nearest, or all that there are."""
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
    Return what is known of a checkpoint with these widths: a known model, else its family.

    Models of one shape (SD 2.1 and its base, SDXL and its Turbo) differ in no tensor's name or
    size. The words beside the tensors tell them apart; without any it is the first of them. The
    spacing counts where no architecture is named.
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
    """Return where the weights of a model that ships are, or None for one from the hub."""
    return _WEIGHTS / spec.name if spec.is_shipped and spec.hub_id is None else None


def config_folder(spec: ModelSpec) -> Path | None:
    """
    Return the diffusers folder with a model's configuration, weights or not, or None.

    Where it has no weights, its tokenizers lack the vocabulary, which is CLIP_VOCABULARY.
    """
    return _CONFIGS / spec.config if spec.config else shipped_folder(spec)


@lru_cache(maxsize=8)
def _read(folders: tuple[str, ...]) -> _Catalog:
    """Return what the modules in the folders of the package give."""
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
