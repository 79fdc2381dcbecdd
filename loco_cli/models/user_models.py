"""
The known models, with their locations from the user's `models.yaml`.

The file maps an alias to a location on each line, for mirrors and local copies:

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
    """Return the path of the user's `models.yaml`, which may not exist."""
    return platformdirs.user_config_path("loco", appauthor=False) / "models.yaml"


def known_models() -> tuple[ModelSpec, ...]:
    """Return every known model; raises RequestError if the user's file is invalid."""
    locations = _read_locations()
    return tuple(registry.get(name, locations) for name in registry.names())


def known_model(name: str) -> ModelSpec:
    """Return a known model; raises UnknownName, or RequestError if the user's file is invalid."""
    return registry.get(name, _read_locations())


def _read_locations() -> dict[str, str]:
    path = user_models_file()
    if not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise RequestError(f"cannot read `{path}` as YAML") from error
    locations = {} if content is None else content
    if not isinstance(locations, dict):
        raise RequestError(f"`{path}` does not map models to locations", _HINT)
    for name, location in locations.items():
        if name not in registry.names():
            raise RequestError(
                f"`{path}` names `{name}`, which is not a known model",
                f"choose one of {', '.join(registry.names())}",
            )
        if not isinstance(location, str) or not location.strip():
            raise RequestError(f"`{path}` gives no location for `{name}`", _HINT)
    return locations
