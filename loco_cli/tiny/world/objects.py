"""The objects of the world; each is a function that draws one with a pen."""

from collections.abc import Callable

import numpy as np

from loco_cli.tiny.world.pen import Colour, Pen

Draw = Callable[[Pen, np.random.Generator], None]

BLACK: Colour = (28, 28, 34)
WHITE: Colour = (250, 250, 246)
DARK: Colour = (52, 52, 60)


def pick(rng: np.random.Generator, *colours: Colour) -> Colour:
    """Return one of `colours` with a small random shift, so that pictures vary."""
    base = colours[int(rng.integers(len(colours)))]
    red, green, blue = (int(np.clip(c + rng.integers(-10, 11), 0, 255)) for c in base)
    return red, green, blue


def shade(colour: Colour, factor: float) -> Colour:
    """Return a darker (`factor` below 1) or lighter colour."""
    red, green, blue = (int(np.clip(c * factor, 0, 255)) for c in colour)
    return red, green, blue


def _cat(pen: Pen, rng: np.random.Generator) -> None:
    fur = pick(rng, (232, 138, 52), (240, 152, 70))
    pen.curve((0.5, 0.8), (1.25, 0.6), (0.82, -0.05), shade(fur, 0.8), 0.17)
    pen.oval(-0.55, -0.1, 0.62, 1.0, fur)
    pen.oval(-0.25, 0.25, 0.32, 1.0, shade(fur, 1.25))
    pen.poly([(-0.6, -0.98), (-0.58, -0.3), (-0.12, -0.58)], fur)
    pen.poly([(0.6, -0.98), (0.58, -0.3), (0.12, -0.58)], fur)
    pen.poly([(-0.5, -0.78), (-0.48, -0.45), (-0.25, -0.58)], (250, 190, 180))
    pen.poly([(0.5, -0.78), (0.48, -0.45), (0.25, -0.58)], (250, 190, 180))
    pen.oval(-0.62, -0.72, 0.62, 0.2, fur)
    for x in (-0.27, 0.27):
        pen.oval(x - 0.14, -0.42, x + 0.14, -0.12, (120, 210, 90))
        pen.oval(x - 0.05, -0.42, x + 0.05, -0.12, BLACK)
    pen.poly([(-0.08, -0.08), (0.08, -0.08), (0, 0.02)], (230, 110, 120))
    for y in (-0.04, 0.06):
        pen.line([(0.2, y), (0.8, y - 0.08 + (y > 0) * 0.1)], WHITE, 0.035)
        pen.line([(-0.2, y), (-0.8, y - 0.08 + (y > 0) * 0.1)], WHITE, 0.035)


def _dog(pen: Pen, rng: np.random.Generator) -> None:
    fur = pick(rng, (150, 98, 56), (138, 88, 52))
    ear = shade(fur, 0.6)
    pen.curve((0.55, 0.5), (1.0, 0.3), (0.95, -0.15), fur, 0.16)
    pen.oval(-0.5, -0.05, 0.68, 0.95, fur)
    for x in (-0.42, 0.32):
        pen.box(x, 0.5, x + 0.24, 1.0, shade(fur, 0.9))
    pen.oval(-0.66, -0.9, 0.5, 0.2, fur)
    pen.oval(-0.92, -0.82, -0.5, 0.14, ear)
    pen.oval(0.34, -0.82, 0.76, 0.14, ear)
    pen.oval(-0.42, -0.4, 0.26, 0.2, (232, 204, 166))
    for x in (-0.32, 0.16):
        pen.disc(x, -0.48, 0.1, BLACK)
    pen.oval(-0.24, -0.36, 0.08, -0.14, BLACK)
    pen.oval(-0.17, 0.0, 0.02, 0.34, (238, 100, 112))


def _snoopy(pen: Pen, rng: np.random.Generator) -> None:
    roof = pick(rng, (214, 44, 44), (206, 50, 40))
    pen.poly([(-0.98, 0.62), (0.0, 0.12), (0.98, 0.62)], roof)
    pen.box(-0.74, 0.6, 0.74, 1.0, shade(roof, 0.82))
    pen.oval(-0.3, 0.52, 0.3, 1.2, BLACK)
    pen.box(-0.74, 1.0, 0.74, 1.25, shade(roof, 0.82))
    pen.oval(-0.14, -0.2, 0.5, 0.5, WHITE)
    pen.line([(-0.12, 0.02), (0.42, 0.02)], (220, 40, 44), 0.1)
    pen.oval(-0.98, -0.66, 0.1, -0.08, WHITE)
    pen.oval(-0.44, -1.0, 0.58, 0.06, WHITE)
    pen.oval(0.16, -0.74, 0.6, 0.1, BLACK)
    pen.disc(-0.92, -0.42, 0.16, BLACK)
    pen.oval(-0.3, -0.74, -0.16, -0.5, BLACK)


def _robot(pen: Pen, rng: np.random.Generator) -> None:
    steel = pick(rng, (140, 152, 168), (128, 146, 160))
    pen.line([(0, -0.75), (0, -1.0)], DARK, 0.06)
    pen.disc(0, -1.0, 0.1, (236, 70, 60))
    pen.box(-0.45, -0.8, 0.45, -0.15, steel)
    for x in (-0.2, 0.2):
        pen.disc(x, -0.52, 0.13, (255, 214, 60))
        pen.disc(x, -0.52, 0.05, BLACK)
    pen.box(-0.24, -0.32, 0.24, -0.23, DARK)
    pen.box(-0.6, -0.1, 0.6, 0.58, shade(steel, 0.8))
    pen.box(-0.32, 0.06, 0.32, 0.4, shade(steel, 1.3))
    for x, colour in ((-0.17, (230, 70, 60)), (0.02, (80, 190, 90)), (0.2, (250, 200, 60))):
        pen.disc(x, 0.22, 0.08, colour)
    for side in (-1, 1):
        pen.line([(side * 0.66, 0.0), (side * 0.9, 0.3), (side * 0.84, 0.55)], steel, 0.16)
        pen.box(side * 0.32 - 0.15, 0.58, side * 0.32 + 0.15, 1.0, steel)


def _r2d2(pen: Pen, rng: np.random.Generator) -> None:
    blue = pick(rng, (36, 84, 190), (44, 92, 196))
    pen.oval(-0.5, -1.0, 0.5, 0.1, (190, 198, 208))
    pen.box(-0.34, -0.84, 0.34, -0.66, blue)
    pen.disc(0.0, -0.6, 0.15, BLACK)
    pen.disc(0.3, -0.52, 0.08, (230, 60, 50))
    pen.box(-0.5, -0.44, 0.5, 0.62, WHITE)
    pen.box(-0.5, -0.44, 0.5, -0.32, blue)
    pen.box(-0.26, -0.2, 0.26, -0.06, blue)
    pen.box(-0.26, 0.06, -0.06, 0.5, blue)
    pen.box(0.06, 0.06, 0.26, 0.5, blue)
    for side in (-1, 1):
        left, right = sorted((side * 0.54, side * 0.84))
        pen.box(left, -0.36, right, 0.74, (214, 220, 230))
        pen.box(left + 0.07, -0.2, right - 0.07, 0.3, blue)
        pen.poly([(left - 0.08, 1.0), (left, 0.7), (right, 0.7), (right + 0.08, 1.0)], WHITE)
    pen.poly([(-0.24, 0.95), (-0.16, 0.62), (0.16, 0.62), (0.24, 0.95)], (200, 206, 216))


def _car(pen: Pen, rng: np.random.Generator) -> None:
    paint = pick(rng, (222, 44, 48), (232, 62, 40))
    pen.poly([(-0.6, 0.02), (-0.36, -0.46), (0.34, -0.46), (0.66, 0.02)], shade(paint, 0.85))
    pen.poly([(-0.45, 0.0), (-0.28, -0.34), (-0.03, -0.34), (-0.03, 0.0)], (190, 226, 244))
    pen.poly([(0.06, 0.0), (0.06, -0.34), (0.28, -0.34), (0.48, 0.0)], (190, 226, 244))
    pen.poly(
        [(-1.0, 0.1), (-0.9, -0.02), (0.9, -0.02), (1.0, 0.14), (1.0, 0.44), (-1.0, 0.44)], paint
    )
    pen.disc(-0.92, 0.16, 0.09, (255, 236, 140))
    for x in (-0.55, 0.56):
        pen.disc(x, 0.46, 0.26, BLACK)
        pen.disc(x, 0.46, 0.12, (200, 204, 210))


def _truck(pen: Pen, rng: np.random.Generator) -> None:
    paint = pick(rng, (40, 140, 90), (46, 150, 100))
    pen.box(-0.3, -0.72, 1.0, 0.36, (232, 220, 190))
    pen.box(-0.3, -0.34, 1.0, -0.14, shade(paint, 1.1))
    pen.poly([(-0.98, 0.4), (-0.98, -0.02), (-0.8, -0.4), (-0.36, -0.4), (-0.36, 0.4)], paint)
    pen.poly([(-0.9, -0.02), (-0.76, -0.28), (-0.5, -0.28), (-0.5, -0.02)], (190, 226, 244))
    pen.box(-1.0, 0.32, 1.0, 0.48, DARK)
    for x in (-0.66, 0.28, 0.74):
        pen.disc(x, 0.5, 0.23, BLACK)
        pen.disc(x, 0.5, 0.1, (200, 204, 210))


def _house(pen: Pen, rng: np.random.Generator) -> None:
    wall = pick(rng, (246, 226, 176), (250, 234, 196))
    pen.box(0.34, -0.95, 0.56, -0.3, (150, 84, 70))
    pen.box(-0.7, -0.15, 0.7, 0.95, wall)
    pen.poly([(-0.95, -0.1), (0, -0.95), (0.95, -0.1)], pick(rng, (190, 72, 52), (178, 64, 56)))
    pen.box(-0.18, 0.34, 0.16, 0.95, (120, 74, 46))
    for x in (-0.54, 0.28):
        pen.box(x, 0.06, x + 0.3, 0.36, (120, 180, 220))


def _castle(pen: Pen, rng: np.random.Generator) -> None:
    stone = pick(rng, (152, 148, 158), (160, 154, 160))
    flag = pick(rng, (220, 60, 60), (230, 80, 60))
    pen.box(-0.55, -0.1, 0.55, 0.95, shade(stone, 0.85))
    for x in (-0.5, -0.18, 0.14, 0.42):
        pen.box(x, -0.28, x + 0.16, 0.0, shade(stone, 0.85))
    for x in (-0.72, 0.72):
        pen.box(x - 0.24, -0.5, x + 0.24, 0.95, stone)
        pen.poly([(x - 0.32, -0.5), (x, -0.98), (x + 0.32, -0.5)], (96, 84, 140))
        pen.box(x - 0.07, -0.25, x + 0.07, 0.05, DARK)
    pen.line([(0, -0.25), (0, -0.85)], DARK, 0.05)
    pen.poly([(0.0, -0.86), (0.36, -0.72), (0.0, -0.56)], flag)
    pen.oval(-0.24, 0.22, 0.24, 0.8, (84, 52, 36))
    pen.box(-0.24, 0.5, 0.24, 0.95, (84, 52, 36))


def _tree(pen: Pen, rng: np.random.Generator) -> None:
    leaf = pick(rng, (52, 142, 62), (64, 154, 58))
    pen.poly([(-0.17, 1.0), (-0.1, 0.0), (0.1, 0.0), (0.17, 1.0)], (112, 74, 44))
    pen.disc(-0.4, 0.0, 0.42, shade(leaf, 0.85))
    pen.disc(0.4, 0.0, 0.42, shade(leaf, 0.85))
    pen.disc(0.0, -0.44, 0.54, leaf)
    pen.disc(-0.1, -0.1, 0.4, shade(leaf, 1.12))
    for x, y in ((-0.45, 0.05), (0.4, -0.05), (0.1, -0.5), (-0.15, -0.15), (0.25, 0.2)):
        pen.disc(x, y, 0.09, (226, 52, 52))


def _flower(pen: Pen, rng: np.random.Generator) -> None:
    petal = pick(rng, (236, 92, 160), (242, 104, 150))
    pen.curve((0, 0.0), (0.12, 0.5), (0.0, 1.0), (54, 140, 60), 0.13)
    pen.oval(-0.62, 0.42, -0.02, 0.7, (74, 164, 70))
    pen.oval(0.04, 0.55, 0.62, 0.83, (74, 164, 70))
    for angle in np.arange(7) * 2 * np.pi / 7:
        pen.disc(0.42 * float(np.cos(angle)), -0.38 + 0.42 * float(np.sin(angle)), 0.27, petal)
    pen.disc(0, -0.38, 0.27, (252, 208, 62))


def _boat(pen: Pen, rng: np.random.Generator) -> None:
    hull = pick(rng, (142, 70, 40), (150, 78, 48))
    pen.line([(0.0, 0.4), (0.0, -1.0)], (96, 66, 40), 0.07)
    pen.poly([(0.07, -0.95), (0.07, 0.26), (0.8, 0.26)], WHITE)
    pen.poly([(-0.07, -0.75), (-0.07, 0.26), (-0.62, 0.26)], (240, 214, 170))
    pen.poly([(-0.95, 0.36), (0.98, 0.36), (0.66, 0.86), (-0.66, 0.86)], hull)
    pen.box(-0.84, 0.46, 0.86, 0.56, WHITE)


def _fish(pen: Pen, rng: np.random.Generator) -> None:
    scale = pick(rng, (250, 150, 40), (252, 164, 52))
    pen.poly([(0.5, 0.0), (1.0, -0.46), (0.9, 0.0), (1.0, 0.46)], shade(scale, 0.85))
    pen.poly([(-0.2, -0.4), (0.16, -0.8), (0.4, -0.3)], shade(scale, 0.85))
    pen.poly([(-0.1, 0.4), (0.12, 0.74), (0.34, 0.3)], shade(scale, 0.85))
    pen.oval(-0.95, -0.5, 0.62, 0.5, scale)
    pen.box(-0.32, -0.45, -0.16, 0.45, WHITE)
    pen.box(0.12, -0.42, 0.26, 0.42, WHITE)
    pen.disc(-0.62, -0.12, 0.14, WHITE)
    pen.disc(-0.64, -0.12, 0.07, BLACK)


def _bird(pen: Pen, rng: np.random.Generator) -> None:
    plume = pick(rng, (58, 120, 214), (70, 132, 222))
    pen.line([(-1.05, 0.72), (1.05, 0.6)], (104, 72, 46), 0.12)
    pen.poly([(0.4, 0.2), (1.05, 0.06), (0.98, 0.42)], shade(plume, 0.75))
    pen.line([(-0.1, 0.4), (-0.1, 0.68)], (240, 160, 40), 0.06)
    pen.line([(0.14, 0.4), (0.14, 0.66)], (240, 160, 40), 0.06)
    pen.oval(-0.55, -0.3, 0.65, 0.52, plume)
    pen.oval(-0.5, -0.05, 0.2, 0.5, (244, 180, 120))
    pen.disc(-0.42, -0.44, 0.36, plume)
    pen.poly([(-0.72, -0.5), (-1.08, -0.36), (-0.7, -0.28)], (246, 176, 46))
    pen.oval(-0.05, -0.22, 0.68, 0.26, shade(plume, 0.72))
    pen.disc(-0.5, -0.5, 0.08, WHITE)
    pen.disc(-0.51, -0.5, 0.045, BLACK)


OBJECTS: dict[str, Draw] = {
    "cat": _cat,
    "dog": _dog,
    "snoopy": _snoopy,
    "robot": _robot,
    "r2d2": _r2d2,
    "car": _car,
    "truck": _truck,
    "house": _house,
    "castle": _castle,
    "tree": _tree,
    "flower": _flower,
    "boat": _boat,
    "fish": _fish,
    "bird": _bird,
}
NAMED = ("snoopy", "r2d2")  # characters, which take no article
