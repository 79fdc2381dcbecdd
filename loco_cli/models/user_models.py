"""
The known models, from where a user has them: `models.yaml` in the user's configuration.

It holds an alias and a place per line, since repositories vanish and mirrors come up:

    sd21: somebody/stable-diffusion-2-1
    sdxl: /models/sd_xl_base_1.0.safetensors
"""

from pathlib import Path

import platformdirs
import yaml

from loco_cli.errors import RequestError
from loco_cli.families import registry
from loco_cli.families.spec import ModelSpec

_HINT = "write lines like `sd21: owner/repository` or `sdxl: /models/sdxl.safetensors`"


def user_models_file() -> Path:
    """Return where the user's own places of models are written down, if they are."""
    return platformdirs.user_config_path("loco", appauthor=False) / "models.yaml"


def known_models() -> tuple[ModelSpec, ...]:
    """Return every known model; raises RequestError where the user's file is wrong."""
    places = _places()
    return tuple(registry.get(name, places) for name in registry.names())


def known_model(name: str) -> ModelSpec:
    """Return a known model; raises UnknownName, and RequestError as `known_models` does."""
    return registry.get(name, _places())


def _places() -> dict[str, str]:
    path = user_models_file()
    if not path.is_file():
        return {}
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise RequestError(f"`{path}` cannot be read as YAML") from error
    places = {} if found is None else found
    if not isinstance(places, dict):
        raise RequestError(f"`{path}` holds no names of models", _HINT)
    for name, place in places.items():
        if name not in registry.names():
            raise RequestError(
                f"`{path}` has a place for `{name}`, which is no known model",
                f"choose one of {', '.join(registry.names())}",
            )
        if not isinstance(place, str) or not place.strip():
            raise RequestError(f"`{path}` has no place for `{name}`", _HINT)
    return places
