"""
The laws of every fault: the base is whole, each output verifies, each manifest has an output.
"""

from pathlib import Path

from loco_cli.commands import verify
from loco_cli.errors import LocoError
from tests.robustness.faults.children import End
from tests.robustness.faults.scenes import Bases, Scene

_MANIFESTS = ("*.loco.json", "*/loco-manifest.json")


def breaches(scene: Scene, folder: Path, bases: Bases) -> list[str]:
    """Return a sentence for each law that is broken in the folder of a scene."""
    found = []
    if not bases.is_whole(folder / scene.base, scene.base):
        found.append("the base is damaged")
    for final in scene.finals:
        is_restored = final.startswith("back") and (folder / final).exists()
        if is_restored and not bases.is_whole(folder / final, scene.base):
            found.append("the restored base differs from the base")
    return found + breaches_of_outputs(folder)


def breaches_of_outputs(folder: Path) -> list[str]:
    """Return the breaches of outputs and manifests alone, which hold for a damaged base too."""
    found = _lonely_manifests(folder)
    for name in ("out", "out.safetensors"):
        found += _verify(folder / name)
    return found


def breaches_of_end(end: End) -> list[str]:
    """Return the breaches in the exit code and the output: an error is one sentence."""
    found = []
    if end.code not in (None, 0, 1, 2):
        found.append(f"exit code {end.code}: {end.output}")
    if "Traceback" in end.output or "bug in loco" in end.output:
        found.append(f"a traceback: {end.output}")
    if end.code in (1, 2) and not end.output.startswith("error: "):
        found.append(f"no sentence: {end.output}")
    return found


def state(scene: Scene, folder: Path) -> str:
    """Return the state of a folder in a few words."""
    is_whole = all((folder / final).exists() for final in scene.finals)
    state = "a whole output" if is_whole else "no output"
    return f"{state}, and a hidden folder" if any(folder.glob(".*.partial")) else state


def _verify(output: Path) -> list[str]:
    if not output.exists():
        return []
    try:
        failures = verify.run(output).failures
    except LocoError as error:
        failures = (error.message,)
    return [f"an output that does not verify: {failure}" for failure in failures]


def _lonely_manifests(folder: Path) -> list[str]:
    found = []
    for pattern in _MANIFESTS:
        for manifest in folder.glob(pattern):
            stem = manifest.name.removesuffix(".loco.json")
            weights = folder / f"{stem}.safetensors"
            if manifest.name.endswith(".loco.json") and not weights.is_file():
                found.append(f"a manifest without its output: {manifest.name}")
    return found
