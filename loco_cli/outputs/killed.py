"""What a program that was killed between two renames has left of an output, and where."""

from pathlib import Path

from loco_cli.checkpoint.staging import left_behind


def interrupted_manifest(root: Path, manifest: Path) -> Path | None:
    """
    Return the manifest of the weights `root` that did not get its name, None where there is none.

    Files cannot be renamed together, and a manifest is the last of an output's to be, as it is the
    first of those that are taken away. A folder is renamed with all that is in it.
    """
    for folder in () if root.is_dir() else left_behind(root):
        for side in (folder / "new", folder / "old"):
            found = side / manifest.name
            if found.is_file() and not (side / root.name).exists():
                return found
    return None


def interrupted_output(output: Path) -> Path | None:
    """Return where an output is that was to be replaced, None where there is none."""
    places = (folder / "old" / output.name for folder in left_behind(output))
    return next((place for place in places if place.exists()), None)
