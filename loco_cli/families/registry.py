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
class _Known:
    """The families of the package and the models of each, by name, in the order of lists."""

    families: Mapping[str, Family]
    models: Mapping[str, ModelSpec]


@dataclass(frozen=True)
class Declared:
    """
    The words that stand beside a checkpoint's tensors: `Declared("stable-diffusion-xl-v1-base")`.

    A file's metadata has them in modelspec's words, a folder in its scheduler's.
    """

    architecture: str | None = None
    prediction: str | None = None
    spacing: str | None = None


def families() -> tuple[Family, ...]:
    """Return all families, in the order of lists."""
    return tuple(_known().families.values())


def family(name: str) -> Family:
    """Return the family that documents call by this name; raises UnknownName."""
    if name not in _known().families:
        raise UnknownName(
            f"unknown family `{name}`", f"choose one of {', '.join(_known().families)}"
        )
    return _known().families[name]


def networks() -> tuple[Network, ...]:
    """Return the networks that families have."""
    return tuple(dict.fromkeys(family.network for family in families()))


def components() -> tuple[str, ...]:
    """Return the components that models have, as folders of the diffusers layout."""
    contexts = [spec.context for spec in _known().models.values()]
    encoders = [encoder.component for context in contexts for encoder in context.encoders]
    return tuple(dict.fromkeys([*(one.component for one in networks()), *encoders, "vae"]))


def key_ends() -> tuple[str, ...]:
    """Return how the names of key projections end that read the text, in one family or another."""
    return tuple(dict.fromkeys(family.key_end for family in families()))


def names() -> tuple[str, ...]:
    """Return the names of all known models, the shipped ones first."""
    return tuple(_known().models)


def get(name: str, hub_ids: Mapping[str, str] | None = None) -> ModelSpec:
    """
    Return the spec of a name, from the hub repository that `hub_ids` has for it, if any.

    Raises UnknownName, also where `hub_ids` names a model that is not known.
    """
    models = _known().models
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
    family: Family, widths: Sequence[int], d_text: int, declared: Declared | None = None
) -> ModelSpec:
    """
    Return what is known of a checkpoint with these widths: a known model, else its family.

    Models of one shape (SD 2.1 and its base, SDXL and its Turbo) differ in no tensor's name or
    size. What is declared of a checkpoint tells them apart; without it it is the first of them.
    """
    layers, declared = family.layers(widths), declared or Declared()
    fitting = [
        spec
        for spec in _known().models.values()
        if (spec.family, spec.d_text, spec.layers) == (family, d_text, layers)
    ]
    if fitting:
        return max(fitting, key=lambda spec: _likeness(spec, declared))
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
    return _WEIGHTS / spec.name if spec.ships and spec.hub_id is None else None


def config_folder(spec: ModelSpec) -> Path | None:
    """
    Return the diffusers folder with a model's configuration, weights or not, or None.

    Where it has no weights, its tokenizers lack the vocabulary, which is CLIP_VOCABULARY.
    """
    return _CONFIGS / spec.config if spec.config else shipped_folder(spec)


def _likeness(spec: ModelSpec, declared: Declared) -> tuple[bool, bool]:
    is_spaced = spec.spacing is not None and spec.spacing == declared.spacing
    is_so_called = spec.architecture == declared.architecture
    return is_so_called or (declared.architecture is None and is_spaced), (
        spec.prediction == declared.prediction
    )


def _known() -> _Known:
    return _read(tuple(package.__path__))


@lru_cache(maxsize=8)
def _read(folders: tuple[str, ...]) -> _Known:
    """Return what the modules in the folders of the package give."""
    modules = [
        import_module(f"{package.__name__}.{module.name}") for module in iter_modules(folders)
    ]
    families = sorted(
        (family for module in modules for family in getattr(module, "FAMILIES", ())),
        key=lambda family: (family.place, family.name),
    )
    order = {family.name: place for place, family in enumerate(families)}
    models = sorted(
        (spec for module in modules for spec in getattr(module, "MODELS", ())),
        key=lambda spec: order[spec.family.name],
    )
    return _Known(
        {family.name: family for family in families}, {spec.name: spec for spec in models}
    )
