"""The paths of outputs, and the check of their disk."""

from pathlib import Path

import pytest

from loco_cli.errors import MachineError
from loco_cli.outputs.paths import OutputPaths, _default_output, check_places


def test_the_default_name_is_model_and_recipe():
    """
    The default output is `./<model>-<recipe>`, a single plain name for any path or id.
    """
    names = {
        ("tiny", "remove_style"): "tiny-remove_style",
        ("stabilityai/sdxl-turbo", "recipes/update_fact.yaml"): "sdxl-turbo-update_fact",
        ("/models/v1-5.safetensors", "van gogh style"): "v1-5-van-gogh-style",
        ("..", "../../etc"): "model-etc",
    }

    assert {pair: str(_default_output(*pair)) for pair in names} == names


def test_the_files_of_an_output_share_its_stem():
    """
    The suffix of a file is optional, and a dot in the name is not a suffix.
    """
    for typed in ("out.v2", "out.v2.safetensors"):
        paths = OutputPaths.of(Path("models") / typed, is_folder=False)

        assert paths.root == Path("models/out.v2.safetensors")
        assert [path.name for path in paths.beside] == [
            "out.v2.loco.yaml",
            "out.v2.undo.safetensors",
            "out.v2.loco.html",
            "out.v2.loco.json",
        ]


def test_checks_the_disk_before_a_write(tmp_path):
    """
    A disk without enough space is refused before anything is written.
    """
    places = (tmp_path / "out",)

    with pytest.raises(MachineError):
        check_places((tmp_path / "base",), places, is_folder=True, needed_bytes=10**18, force=False)
