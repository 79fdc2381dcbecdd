"""
What must hold after any fault: no base is damaged, no output is there that does not verify, and no
manifest without its output.
"""

from pathlib import Path

from loco_cli.commands import verify
from loco_cli.errors import LocoError
from tests.faults.children import End
from tests.faults.scenes import Bases, Scene

_MANIFESTS = ("*.loco.json", "*/loco-manifest.json")


def breaches(scene: Scene, folder: Path, bases: Bases) -> list[str]:
    """Return every law that does not hold in the folder of a scene, in words."""
    found = []
    if not bases.is_whole(folder / scene.base, scene.base):
        found.append("the base is damaged")
    for final in scene.finals:
        if final.startswith("back") and (folder / final).exists():
            found += [] if bases.is_whole(folder / final, scene.base) else ["undone to no base"]
    return found + outputs(folder)


def outputs(folder: Path) -> list[str]:
    """Return what does not hold of outputs and manifests, whatever became of their base."""
    found = _lonely_manifests(folder)
    for name in ("out", "out.safetensors"):
        found += _of_output(folder / name)
    return found


def of_end(end: End) -> list[str]:
    """Return what is wrong with how a command ended: an error is one sentence, no traceback."""
    found = []
    if end.code not in (None, 0, 1, 2):
        found.append(f"exit code {end.code}: {end.said}")
    if "Traceback" in end.said or "bug in loco" in end.said:
        found.append(f"a traceback: {end.said}")
    if end.code in (1, 2) and not end.said.startswith("error: "):
        found.append(f"no sentence: {end.said}")
    return found


def state(scene: Scene, folder: Path) -> str:
    """Return what is there now, in a word or two."""
    there = [(folder / final).exists() for final in scene.finals]
    left = any(folder.glob(".*.partial"))
    what = "a whole output" if all(there) else "no output"
    return f"{what}, and a hidden folder" if left else what


def _of_output(output: Path) -> list[str]:
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
