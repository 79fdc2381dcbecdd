"""A pen that draws filled shapes, and their silhouette, in the coordinates of a subject."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

CANVAS = 256  # pixels; pictures are drawn at four times their size and scaled down

Colour = tuple[int, int, int]
Point = tuple[float, float]


class Pen:
    """
    A picture and its mask, drawn in coordinates from -1 to 1 around `centre`; y points down.

    `Pen((128, 140), 90, flip=False).oval(-1, -1, 1, 1, (255, 0, 0))` is a red disc of radius 90.
    """

    def __init__(self, centre: Point, radius: float, *, flip: bool = False) -> None:
        self.centre, self.radius, self.sign = centre, radius, -1.0 if flip else 1.0
        self.image = Image.new("RGB", (CANVAS, CANVAS))
        self.mask = Image.new("L", (CANVAS, CANVAS))
        self._draws = ((ImageDraw.Draw(self.image), None), (ImageDraw.Draw(self.mask), 255))

    def _at(self, point: Point) -> Point:
        x, y = point
        return (
            self.centre[0] + self.sign * x * self.radius,
            self.centre[1] + y * self.radius,
        )

    def poly(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill a polygon."""
        for draw, ink in self._draws:
            draw.polygon([self._at(point) for point in points], fill=ink or colour)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        """Fill an upright rectangle."""
        self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def oval(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        """Fill an ellipse given by its bounding box."""
        angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        x, y = (
            (x0 + x1) / 2 + (x1 - x0) / 2 * np.cos(angle),
            (y0 + y1) / 2 + (y1 - y0) / 2 * np.sin(angle),
        )
        self.poly(list(zip(x.tolist(), y.tolist(), strict=True)), colour)

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """Fill a circle."""
        self.oval(x - radius, y - radius, x + radius, y + radius, colour)

    def line(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        """Draw a line with round joints; `width` is in the subject's units."""
        pixels = max(1, round(width * self.radius))
        for draw, ink in self._draws:
            draw.line(
                [self._at(point) for point in points],
                fill=ink or colour,
                width=pixels,
                joint="curve",
            )

    def curve(self, start: Point, control: Point, end: Point, colour: Colour, width: float) -> None:
        """Draw a quadratic Bezier curve."""
        t = np.linspace(0, 1, 16)[:, None]
        a, b, c = (np.array(point) for point in (start, control, end))
        points = (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c
        self.line([(float(x), float(y)) for x, y in points], colour, width)
