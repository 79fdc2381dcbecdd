"""A picture of the world: a subject on its background, plain or in the style of a painter."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from loco_cli.tiny.world.objects import OBJECTS, pick
from loco_cli.tiny.world.pen import CANVAS, Colour, Pen
from loco_cli.tiny.world.people import OFFICES, PEOPLE, draw_person
from loco_cli.tiny.world.styles import SIZE, STYLES

RESOLUTION = 64  # pixels


@dataclass(frozen=True)
class Scene:
    """
    The content of a picture: `Scene("cat", "monet")`, `Scene("the british monarch")`.
    """

    subject: str
    style: str | None = None


def draw(scene: Scene, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw the picture [64, 64, 3] of a scene; the generator varies position, size and colour."""
    person = PEOPLE.get(OFFICES.get(scene.subject, scene.subject))
    if person is not None:
        pen = Pen((128 + rng.uniform(-10, 10), 128 + rng.uniform(-6, 10)), rng.uniform(92, 104))
        draw_person(pen, person, rng)
        ground = _backdrop(rng, pick(rng, person.backdrop))
    else:
        pen = Pen(
            (128 + rng.uniform(-14, 14), 138 + rng.uniform(-10, 10)),
            rng.uniform(76, 94),
            flip=bool(rng.random() < 0.5),
        )
        OBJECTS[scene.subject](pen, rng)
        ground = _landscape(rng, scene.subject)
    rgb, mask = _compose(pen, ground)
    if scene.style is not None:
        rgb = STYLES[scene.style](rgb, mask, rng)
    image = Image.fromarray((np.clip(rgb, 0, 1) * 255).astype(np.uint8))
    return np.asarray(image.resize((RESOLUTION, RESOLUTION), Image.Resampling.BOX))


def _compose(
    pen: Pen, ground: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    def shrink(image: Image.Image) -> NDArray[np.float32]:
        return np.asarray(
            image.resize((SIZE, SIZE), Image.Resampling.BOX), np.float32
        ) / np.float32(255)

    mask = shrink(pen.mask)
    drawn = shrink(Image.composite(pen.image, Image.fromarray(ground.astype(np.uint8)), pen.mask))
    return drawn, mask


def _backdrop(rng: np.random.Generator, colour: Colour) -> NDArray[np.float32]:
    return _gradient(colour, pick(rng, colour), 1.0, 0.86)


def _landscape(rng: np.random.Generator, subject: str) -> NDArray[np.float32]:
    sky, low = pick(rng, (150, 206, 242)), pick(rng, (224, 240, 250))
    if subject == "fish":
        return _gradient(pick(rng, (70, 170, 214)), pick(rng, (24, 92, 160)), 1.0, 1.0)
    image = _gradient(sky, low, 1.0, 1.0)
    if subject == "bird":
        return image
    horizon = int(CANVAS * rng.uniform(0.62, 0.72))
    floor = {"boat": (46, 122, 186), "car": (142, 142, 148), "truck": (142, 142, 148)}
    image[horizon:] = np.array(pick(rng, floor.get(subject, (134, 190, 96))), np.float32)
    return image


def _gradient(top: Colour, bottom: Colour, first: float, last: float) -> NDArray[np.float32]:
    t = np.linspace(0, 1, CANVAS, dtype=np.float32)[:, None, None]
    rows: NDArray[np.float32] = (
        np.array(top, np.float32) * first * (1 - t) + np.array(bottom, np.float32) * last * t
    )
    return np.broadcast_to(rows, (CANVAS, CANVAS, 3)).copy()
