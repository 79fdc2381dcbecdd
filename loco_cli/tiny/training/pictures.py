"""The training and held-out pictures, drawn by several processes and cached as arrays."""

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loco_cli.tiny.world.captions import draw_scene
from loco_cli.tiny.world.picture import Scene, draw

SEEDS = {"train": 1, "held-out": 2}


def _scene_of(split: str, index: int) -> Scene:
    """Return the scene of picture number `index`."""
    return draw_scene(np.random.default_rng((SEEDS[split], index, 0)))


def _draw_range(split: str, start: int, stop: int) -> NDArray[np.uint8]:
    return np.stack(
        [
            draw(_scene_of(split, i), np.random.default_rng((SEEDS[split], i, 1)))
            for i in range(start, stop)
        ]
    )


def load_pictures(work: Path, split: str, n: int) -> tuple[NDArray[np.uint8], list[Scene]]:
    """Return `n` pictures [n, 64, 64, 3] of a split and their scenes; draw them if not cached."""
    path = work / f"{split}-{n}.npy"
    if not path.exists():
        edges = [*range(0, n, 500), n]
        with ProcessPoolExecutor() as pool:
            parts = list(pool.map(_draw_range, [split] * (len(edges) - 1), edges[:-1], edges[1:]))
        partial = path.with_suffix(".partial.npy")
        np.save(partial, np.concatenate(parts))
        partial.replace(path)
    return np.load(path, mmap_mode="r"), [_scene_of(split, i) for i in range(n)]
