"""How the shipped models were made, and how good they were found to be, as `training.json` says."""

import json

import pytest

from loco_cli.tiny.training.__main__ import SEEDS, STEPS
from loco_cli.tiny.training.release import WEIGHTS

TRAINING = json.loads((WEIGHTS / "training.json").read_text(encoding="utf-8"))
FIGURES = TRAINING["figures"]


@pytest.mark.parametrize("tower", ["scorer", "judge"])
@pytest.mark.parametrize(
    ("pictures", "wanted"),
    [
        ("drawn", {"styles": 0.99, "subjects": 0.97}),
        ("tiny", {"styles": 0.97, "objects": 0.95, "facts": 0.95}),
        ("tiny-plain", {"styles": 0.97, "objects": 0.95, "facts": 0.95}),
    ],
)
def test_pictures_are_recognised(pictures, tower, wanted):
    """
    What scores and judges is hardly ever wrong about a drawing, nor the models about a prompt.
    """
    found = FIGURES[pictures][tower]

    assert {kind: found[kind] for kind in wanted if found[kind] < wanted[kind]} == {}


def test_the_settings_are_those_of_the_command():
    """
    Whoever runs the command trains what was trained here.
    """
    assert {name: stage["steps"] for name, stage in TRAINING["stages"].items()} == STEPS
    assert {name: stage["seed"] for name, stage in TRAINING["stages"].items()} == {
        name: seed for name, seed in SEEDS.items() if name in STEPS
    }
