"""The settings and figures of the shipped models in `training.json`."""

import json

from loco_cli.tiny.training.__main__ import SEEDS, STEPS
from loco_cli.tiny.training.release import WEIGHTS

TRAINING = json.loads((WEIGHTS / "training.json").read_text(encoding="utf-8"))
FIGURES = TRAINING["figures"]


def test_pictures_are_recognised():
    """
    Scorer and judge recognise nearly every drawn picture and nearly every generated one.
    """
    generated = {"styles": 0.97, "objects": 0.95, "facts": 0.95}
    wanted = {
        "drawn": {"styles": 0.99, "subjects": 0.97},
        "tiny": generated,
        "tiny-plain": generated,
    }

    for pictures, least in wanted.items():
        for tower in ("scorer", "judge"):
            shares = FIGURES[pictures][tower]
            assert {kind: shares[kind] for kind in least if shares[kind] < least[kind]} == {}


def test_the_settings_are_those_of_the_command():
    """
    The training command uses the steps and seeds of the shipped models.
    """
    assert {name: stage["steps"] for name, stage in TRAINING["stages"].items()} == STEPS
    assert {name: stage["seed"] for name, stage in TRAINING["stages"].items()} == {
        name: seed for name, seed in SEEDS.items() if name in STEPS
    }
