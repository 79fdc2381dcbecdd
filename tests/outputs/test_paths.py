"""Names of outputs, and places where none can go."""

from pathlib import Path

import pytest

from loco_cli.errors import MachineError, RequestError
from loco_cli.outputs.paths import OutputPaths, _default_output, check_places


@pytest.mark.parametrize(
    ("model", "recipe", "name"),
    [
        ("tiny", "remove_style", "tiny-remove_style"),
        ("stabilityai/sdxl-turbo", "recipes/update_fact.yaml", "sdxl-turbo-update_fact"),
        ("/models/v1-5.safetensors", "van gogh style", "v1-5-van-gogh-style"),
        ("..", "../../etc", "model-etc"),
    ],
)
def test_the_default_name_is_model_and_recipe(model, recipe, name):
    """
    `./<model>-<recipe>`, whatever the two were given as, and always one plain name.
    """
    assert _default_output(model, recipe) == Path(name)


@pytest.mark.parametrize("typed", ["out.v2", "out.v2.safetensors"])
def test_a_file_s_companions_share_its_stem(typed):
    """
    The suffix may be typed or not; a dot in the name is no suffix.
    """
    paths = OutputPaths.of(Path("models") / typed, is_folder=False)

    assert paths.root == Path("models/out.v2.safetensors")
    assert [path.name for path in paths.beside] == [
        "out.v2.loco.yaml",
        "out.v2.undo.safetensors",
        "out.v2.loco.html",
        "out.v2.loco.json",
    ]


def test_room_is_checked_before_anything_is_written(tmp_path):
    """
    A disk without room, and a folder that is not there, are told beforehand.
    """
    places = (tmp_path / "out",)

    with pytest.raises(MachineError, match="is too full"):
        check_places((tmp_path / "base",), places, is_folder=True, needed_bytes=10**18, force=False)
    with pytest.raises(RequestError, match="there is no folder"):
        check_places(
            (tmp_path / "base",),
            (tmp_path / "no" / "out",),
            is_folder=True,
            needed_bytes=0,
            force=False,
        )
