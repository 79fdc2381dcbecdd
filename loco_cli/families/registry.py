"""Models by name: `get("tiny")` is its ModelSpec, `names()` are all there are."""

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from loco_cli.errors import UnknownName
from loco_cli.families import deepfloyd
from loco_cli.families import sd as stable_diffusion
from loco_cli.families import sdxl as stable_diffusion_xl
from loco_cli.families.spec import ModelSpec

_MODELS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (*stable_diffusion.MODELS, *stable_diffusion_xl.MODELS, *deepfloyd.MODELS)
}
_WEIGHTS = Path(__file__).parents[1] / "tiny" / "weights"
_CONFIGS = Path(__file__).parent / "configs"

# every CLIP model has this vocabulary; where it comes from stands in `configs/clip/NOTICE.md`
CLIP_VOCABULARY = _CONFIGS / "clip" / "vocab.json"
CLIP_MERGES = _CONFIGS / "clip" / "merges.txt"


def names() -> tuple[str, ...]:
    """Return the names of all known models, the shipped ones first."""
    return tuple(_MODELS)


def get(name: str, hub_ids: Mapping[str, str] | None = None) -> ModelSpec:
    """
    Return the spec of a name, from the hub repository that `hub_ids` has for it, if any.

    Raises UnknownName, also where `hub_ids` names a model that is not known.
    """
    unknown = [one for one in (name, *(hub_ids or {})) if one not in _MODELS]
    if unknown:
        raise unknown_model(unknown[0])
    spec = _MODELS[name]
    return replace(spec, hub_id=hub_ids[name]) if hub_ids and name in hub_ids else spec


def unknown_model(name: str, or_else: str = "") -> UnknownName:
    """Return the error of a name that no registry holds: the nearest, or all that there are."""
    near = get_close_matches(name, _MODELS, n=1, cutoff=0.8)
    choice = f"choose one of {', '.join(_MODELS)}{or_else}"
    return UnknownName(f"unknown model `{name}`", f"did you mean `{near[0]}`?" if near else choice)


def shipped_folder(spec: ModelSpec) -> Path | None:
    """Return where the weights of a model that ships are, or None for one from the hub."""
    return _WEIGHTS / spec.name if spec.ships and spec.hub_id is None else None


def config_folder(spec: ModelSpec) -> Path | None:
    """
    Return the diffusers folder with a model's configuration, weights or not, or None.

    Where it has no weights, its tokenizers lack the vocabulary, which is CLIP_VOCABULARY.
    """
    return _CONFIGS / spec.config if spec.config else shipped_folder(spec)
