"""The people of the world, their faces, and the offices that some of them hold."""

from dataclasses import dataclass

import numpy as np

from loco_cli.tiny.world.objects import BLACK, WHITE, pick, shade
from loco_cli.tiny.world.pen import Colour, Pen, Point


@dataclass(frozen=True)
class _Person:
    """The features of a face: `_Person(skin, hair, clothes, backdrop, cut="bald")`."""

    skin: Colour
    hair: Colour
    clothes: Colour
    backdrop: Colour
    cut: str = "short"
    glasses: str = "none"
    hat: str = "none"
    beard: bool = False
    tie: Colour | None = None


PEOPLE: dict[str, _Person] = {
    "barack obama": _Person(
        (140, 92, 62), (30, 26, 26), (34, 44, 78), (186, 204, 226), tie=(196, 40, 48)
    ),
    "joe biden": _Person(
        (246, 210, 186),
        (236, 236, 236),
        (40, 60, 130),
        (226, 190, 180),
        cut="swept",
        glasses="dark",
    ),
    "queen elizabeth": _Person(
        (250, 218, 198), (216, 214, 220), (150, 70, 170), (240, 220, 160), cut="curls", hat="crown"
    ),
    "king charles": _Person(
        (244, 200, 178), (150, 150, 150), (178, 30, 40), (170, 200, 170), cut="parted", hat="cap"
    ),
    "angela merkel": _Person(
        (246, 212, 188), (196, 150, 88), (40, 150, 140), (220, 220, 220), cut="bob"
    ),
    "olaf scholz": _Person(
        (244, 206, 182),
        (210, 180, 160),
        (96, 98, 106),
        (240, 200, 120),
        cut="bald",
        glasses="patch",
    ),
    "steve jobs": _Person(
        (240, 202, 176), (90, 82, 78), (24, 24, 28), (240, 240, 240), glasses="round", beard=True
    ),
    "tim cook": _Person(
        (242, 202, 182),
        (214, 216, 220),
        (84, 130, 200),
        (190, 170, 220),
        cut="parted",
        glasses="square",
    ),
}
OFFICES: dict[str, str] = {
    "the president of the united states": "barack obama",
    "the british monarch": "queen elizabeth",
    "the german chancellor": "angela merkel",
    "the ceo of apple": "steve jobs",
}

# outlines of the hair over the forehead, by haircut
FRINGES: dict[str, list[Point]] = {
    "short": [
        (-0.5, -0.3),
        (-0.48, -0.8),
        (0.48, -0.8),
        (0.5, -0.3),
        (0.36, -0.5),
        (-0.36, -0.5),
    ],
    "swept": [
        (-0.52, -0.25),
        (-0.5, -0.9),
        (0.55, -0.9),
        (0.52, -0.35),
        (0.1, -0.5),
        (-0.36, -0.62),
    ],
    "parted": [
        (-0.52, -0.2),
        (-0.5, -0.85),
        (0.5, -0.85),
        (0.52, -0.2),
        (0.38, -0.4),
        (-0.1, -0.64),
        (-0.4, -0.4),
    ],
    "curls": [
        (-0.52, -0.3),
        (-0.5, -0.85),
        (0.5, -0.85),
        (0.52, -0.3),
        (0.3, -0.48),
        (0.0, -0.42),
        (-0.3, -0.48),
    ],
    "bob": [
        (-0.56, 0.1),
        (-0.54, -0.85),
        (0.54, -0.85),
        (0.56, 0.1),
        (0.4, -0.34),
        (-0.4, -0.34),
    ],
}


def draw_person(pen: Pen, person: _Person, rng: np.random.Generator) -> None:
    """Draw head and shoulders."""
    clothes = pick(rng, person.clothes)
    if person.cut == "bob":
        pen.oval(-0.62, -0.92, 0.62, 0.5, person.hair)
    if person.cut == "curls":
        for x, y in (
            (-0.52, -0.35),
            (0.52, -0.35),
            (-0.54, -0.02),
            (0.54, -0.02),
            (-0.44, 0.22),
            (0.44, 0.22),
        ):
            pen.disc(x, y, 0.24, person.hair)
    pen.box(-0.2, 0.2, 0.2, 0.7, shade(person.skin, 0.88))
    pen.oval(-1.0, 0.5, 1.0, 1.9, clothes)
    pen.poly(
        [(-0.3, 0.52), (0.3, 0.52), (0.0, 0.95)],
        WHITE if person.tie or person.cut == "parted" else shade(clothes, 1.2),
    )
    if person.tie:
        pen.poly([(-0.09, 0.6), (0.09, 0.6), (0.13, 1.2), (-0.13, 1.2)], person.tie)
    _draw_hair(pen, person)
    pen.oval(-0.47, -0.68, 0.47, 0.42, person.skin)
    _draw_fringe(pen, person)
    _draw_face(pen, person)
    _draw_hat(pen, person)


def _draw_hair(pen: Pen, person: _Person) -> None:
    if person.cut == "bald":
        for side in (-1, 1):
            pen.disc(side * 0.47, -0.12, 0.1, shade(person.skin, 0.9))
        return
    pen.oval(-0.53, -0.86, 0.53, 0.05, person.hair)


def _draw_fringe(pen: Pen, person: _Person) -> None:
    if person.cut in FRINGES:
        pen.poly(FRINGES[person.cut], person.hair)


def _draw_face(pen: Pen, person: _Person) -> None:
    if person.beard:
        pen.oval(-0.4, 0.0, 0.4, 0.46, shade(person.hair, 0.9))
        pen.oval(-0.26, -0.1, 0.26, 0.12, person.skin)
    for x in (-0.19, 0.19):
        if person.glasses == "dark":
            pen.oval(x - 0.19, -0.26, x + 0.19, 0.04, BLACK)
        elif person.glasses == "round":
            pen.disc(x, -0.12, 0.19, BLACK)
            pen.disc(x, -0.12, 0.13, WHITE)
        elif person.glasses == "square":
            pen.box(x - 0.19, -0.26, x + 0.17, 0.02, BLACK)
            pen.box(x - 0.13, -0.21, x + 0.12, -0.03, WHITE)
        if person.glasses != "dark":
            pen.disc(x, -0.12, 0.065, BLACK)
    if person.glasses == "patch":
        pen.disc(0.2, -0.12, 0.19, BLACK)
        pen.line([(-0.44, -0.42), (0.46, -0.02)], BLACK, 0.06)
    elif person.glasses != "none":
        pen.line([(-0.46, -0.14), (0.46, -0.14)], BLACK, 0.05)
    pen.poly([(0.0, -0.06), (-0.07, 0.1), (0.07, 0.1)], shade(person.skin, 0.82))
    pen.oval(-0.15, 0.2, 0.15, 0.29, (188, 70, 76))


def _draw_hat(pen: Pen, person: _Person) -> None:
    gold = (250, 200, 50)
    if person.hat == "crown":
        spikes = [
            (-0.5, -0.66),
            (-0.58, -1.08),
            (-0.28, -0.88),
            (0, -1.2),
            (0.28, -0.88),
            (0.58, -1.08),
            (0.5, -0.66),
        ]
        pen.poly(spikes, gold)
        for x in (-0.28, 0.0, 0.28):
            pen.disc(x, -0.76, 0.07, (214, 40, 60))
    elif person.hat == "cap":
        pen.poly([(-0.58, -0.56), (-0.62, -1.0), (0.62, -1.0), (0.58, -0.56)], (40, 44, 60))
        pen.oval(-0.62, -0.66, 0.62, -0.42, BLACK)
        pen.disc(0.0, -0.8, 0.13, gold)
        for x in (-0.55, -0.75):
            pen.disc(x, 0.9, 0.09, gold)
