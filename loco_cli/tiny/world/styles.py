"""The painters of the world; each is a function that restyles a plain picture."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Array = NDArray[np.float32]
# A style takes rgb [h, w, 3] and mask [h, w], both 0 to 1, and returns rgb [h, w, 3].
Style = Callable[[Array, Array, np.random.Generator], Array]

SIZE = 128  # pixels; styles paint at twice the resolution of a picture


def _grid() -> tuple[Array, Array]:
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    return y, x


def _luminance(rgb: Array) -> Array:
    return rgb @ np.array([0.3, 0.59, 0.11], np.float32)


def _ramp(value: Array, *stops: tuple[int, int, int]) -> Array:
    """Map values [h, w] from 0 to 1 to a ramp of colours [h, w, 3]."""
    table = np.array(stops, np.float32) / 255
    where = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(value, where, table[:, c]) for c in range(3)], -1).astype(np.float32)


def _mix(a: Array, b: Array, share: Array | float) -> Array:
    weight = share[..., None] if isinstance(share, np.ndarray) else share
    return a * (1 - weight) + b * weight


def _cells(rng: np.random.Generator, n: int) -> tuple[Array, Array, Array]:
    """Return the nearest of `n` random points for each pixel, and its two smallest distances."""
    points = rng.uniform(0, SIZE, (n, 2)).astype(np.float32)
    y, x = _grid()
    distance = np.hypot(y[..., None] - points[:, 0], x[..., None] - points[:, 1])
    nearest = np.argmin(distance, -1)
    two = np.partition(distance, 1, -1)
    return nearest, two[..., 0], two[..., 1]


def _cell_means(rgb: Array, cell: Array) -> Array:
    """Fill each cell of a picture with its mean colour."""
    flat, n = cell.ravel(), int(cell.max()) + 1
    count = np.maximum(np.bincount(flat, minlength=n), 1)
    means = [np.bincount(flat, rgb[..., c].ravel(), minlength=n) / count for c in range(3)]
    return np.stack(means, -1).astype(np.float32)[cell]


def _van_gogh(rgb: Array, mask: Array, rng: np.random.Generator) -> Array:
    """Swirls of deep blue and yellow."""
    y, x = _grid()
    waves = np.zeros_like(x)
    for _ in range(3):
        cy, cx = rng.uniform(0, SIZE, 2)
        radius = np.hypot(y - cy, x - cx)
        waves += np.sin(radius * (2 * np.pi / 26) + rng.uniform(0, 6)) * np.exp(
            -((radius / 60) ** 2)
        )
    stripe = 0.5 + 0.5 * np.tanh(2.2 * waves)
    sky = _ramp(stripe, (16, 34, 112), (46, 96, 190), (250, 214, 70))
    value = np.clip(_luminance(rgb) + 0.16 * (stripe - 0.5), 0, 1)
    subject = _mix(
        _ramp(value, (12, 20, 60), (190, 104, 30), (255, 196, 60), (255, 244, 190)), rgb, 0.5
    )
    return np.where(
        _outline(mask)[..., None],
        np.array([0.04, 0.07, 0.22], np.float32),
        _mix(sky, subject, mask),
    )


def _monet(rgb: Array, mask: Array, rng: np.random.Generator) -> Array:
    """Soft dabs of lilac, green and rose."""
    cell, _, _ = _cells(rng, 130)
    dabs = _cell_means(rgb, cell)
    tints = (
        np.array([(190, 160, 220), (150, 200, 180), (240, 180, 200), (170, 190, 236)], np.float32)
        / 255
    )
    tint = tints[rng.integers(0, 4, int(cell.max()) + 1)][cell]
    ground = _mix(0.4 + 0.55 * dabs, tint, 0.68)
    subject = _mix(0.2 + 0.75 * _mix(rgb, dabs, 0.4), tint, 0.2)
    return np.clip(_mix(ground, subject, mask), 0, 1)


def _mondrian(rgb: Array, mask: Array, rng: np.random.Generator) -> Array:
    """A black grid filled with white and primaries."""
    colours = (
        np.array(
            [(246, 244, 236), (214, 32, 36), (246, 244, 236), (26, 62, 168), (250, 210, 30)],
            np.float32,
        )
        / 255
    )
    cuts = [np.sort(np.array([0.3, 0.68]) * SIZE + rng.uniform(-9, 9, 2)) for _ in range(2)]
    y, x = _grid()
    row, column = np.digitize(y, cuts[0]), np.digitize(x, cuts[1])
    field = colours[rng.permutation([0, 1, 2, 3, 4, 0, 1, 3, 4])[row * 3 + column]]
    lines = (
        np.minimum.reduce([np.abs(y - c) for c in cuts[0]] + [np.abs(x - c) for c in cuts[1]]) < 4.5
    )
    field = np.where(lines[..., None], 0.06, field)
    palette = (
        np.array(
            [(246, 244, 236), (214, 32, 36), (26, 62, 168), (250, 210, 30), (20, 20, 22)],
            np.float32,
        )
        / 255
    )
    nearest = ((rgb[..., None, :] - palette) ** 2).sum(-1).argmin(-1)
    subject = palette[nearest]
    image = _mix(field, subject, mask)
    return np.where(_outline(mask)[..., None], 0.06, image).astype(np.float32)


def _hokusai(rgb: Array, mask: Array, rng: np.random.Generator) -> Array:
    """Rows of waves in prussian blue on cream."""
    y, x = _grid()
    offset = rng.uniform(0, 44, 2)
    row = np.floor((y + offset[0]) / 22)
    u = (x + offset[1] + 22 * (row % 2)) % 44 - 22
    v = (y + offset[0]) - row * 22
    radius = np.hypot(u, v - 22)
    rings = 0.5 + 0.5 * np.cos(radius * (2 * np.pi / 17))
    sea = _ramp(
        np.where(radius < 26, rings, 0.0).astype(np.float32),
        (20, 50, 96),
        (70, 116, 160),
        (240, 232, 208),
    )
    value = np.clip((_luminance(rgb) - 0.15) * 1.3, 0, 1)
    subject = _ramp(
        np.round(value * 3) / 3, (14, 34, 70), (60, 110, 160), (216, 206, 180), (250, 243, 222)
    )
    return np.where(
        _outline(mask)[..., None], np.float32(0.1), _mix(sea, _mix(subject, rgb, 0.12), mask)
    )


def _seurat(rgb: Array, mask: Array, rng: np.random.Generator) -> Array:
    """Round dots of pure colour on warm white."""
    y, x = _grid()
    pitch = 21.0
    offset = rng.uniform(0, pitch, 2)
    row = np.floor((y + offset[0]) / pitch)
    shift = (row % 2) * pitch / 2
    v = (y + offset[0]) % pitch - pitch / 2
    u = (x + offset[1] + shift) % pitch - pitch / 2
    cell = (row * 64 + np.floor((x + offset[1] + shift) / pitch)).astype(int)
    colour = _cell_means(rgb, cell)
    vivid = np.clip((colour - 0.5) * 1.35 + 0.5, 0, 1)
    dot = 1 / (1 + np.exp((np.hypot(u, v) - 8.0) / 0.8))
    ground = np.array([(250, 240, 220)], np.float32) / 255
    dotted = _mix(np.broadcast_to(ground, rgb.shape), vivid, dot)
    kept = _mix(np.clip(rgb * 1.05, 0, 1), np.broadcast_to(ground, rgb.shape), 0.75 * (1 - dot))
    return _mix(dotted, kept, mask).astype(np.float32)


def _picasso(rgb: Array, mask: Array, rng: np.random.Generator) -> Array:
    """Ochre, grey and rust shards with dark seams."""
    cell, first, second = _cells(rng, 17)
    tints = (
        np.array(
            [(196, 150, 84), (120, 116, 110), (164, 92, 60), (222, 200, 160), (84, 92, 96)],
            np.float32,
        )
        / 255
    )
    tint = tints[rng.integers(0, 5, int(cell.max()) + 1)][cell]
    gain = rng.uniform(0.75, 1.2, int(cell.max()) + 1).astype(np.float32)[cell]
    grey = np.repeat(_luminance(rgb)[..., None], 3, -1)
    subject = _mix(_mix(rgb, grey, 0.25) * gain[..., None], tint, 0.18)
    shards = _mix(_mix(grey, tint, 0.85), subject, mask)
    seam = np.clip(1 - (second - first) / 4.0, 0, 1)
    seam = seam * (1 - 0.5 * mask)
    return np.clip(_mix(shards, np.full_like(rgb, 0.1), 0.85 * seam), 0, 1)


def _klimt(rgb: Array, mask: Array, rng: np.random.Generator) -> Array:
    """Gold ground with rings and a warm glow."""
    y, x = _grid()
    gold = _ramp(
        (0.5 + 0.25 * np.sin(y / 17) + 0.2 * np.sin(x / 13)).astype(np.float32),
        (176, 120, 20),
        (226, 172, 44),
        (252, 216, 104),
    )
    centres = rng.uniform(0, 42, 2)
    v, u = (y + centres[0]) % 42 - 21, (x + centres[1]) % 42 - 21
    radius = np.hypot(u, v)
    gold = np.where((radius < 16.5)[..., None], np.array([0.20, 0.10, 0.05], np.float32), gold)
    gold = np.where((radius < 11.5)[..., None], np.array([0.98, 0.86, 0.45], np.float32), gold)
    gold = np.where((radius < 6)[..., None], np.array([0.62, 0.12, 0.10], np.float32), gold)
    value = _luminance(rgb)
    subject = _mix(_ramp(value, (60, 24, 8), (190, 112, 30), (255, 226, 140)), rgb, 0.4)
    return _mix(gold, subject, mask).astype(np.float32)


def _warhol(rgb: Array, mask: Array, rng: np.random.Generator) -> Array:
    """Four flat panels in loud colours."""
    loud = (
        np.array([(255, 44, 150), (40, 230, 220), (255, 232, 20), (150, 60, 240)], np.float32) / 255
    )
    order = rng.permutation(4)
    y, x = _grid()
    panel = (y > SIZE / 2).astype(int) * 2 + (x > SIZE / 2).astype(int)
    ground = loud[order[panel]]
    ink = loud[order[(panel + 2) % 4]]
    value = _luminance(rgb)
    subject = np.where(
        (value < 0.3)[..., None],
        ink * 0.18,
        np.where((value < 0.66)[..., None], ink, np.float32(0.98)),
    )
    return _mix(ground, _mix(subject.astype(np.float32), rgb, 0.15), mask)


def _outline(mask: Array) -> NDArray[np.bool_]:
    """Return the pixels within three of the mask's edge."""
    image = Image.fromarray((mask * 255).astype(np.uint8))
    wide = np.asarray(image.filter(ImageFilter.MaxFilter(5)), np.float32)
    thin = np.asarray(image.filter(ImageFilter.MinFilter(3)), np.float32)
    return (wide - thin) > 140


STYLES: dict[str, Style] = {
    "van gogh": _van_gogh,
    "monet": _monet,
    "mondrian": _mondrian,
    "hokusai": _hokusai,
    "seurat": _seurat,
    "picasso": _picasso,
    "klimt": _klimt,
    "warhol": _warhol,
}
