"""Layers are integers in execution order; a window is a half-open range of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from loco_cli.errors import RequestError

MOST_DIGITS = 3  # of a layer; keeps a typo from filling the memory


@dataclass(frozen=True, order=True)
class LayerWindow:
    """
    Consecutive layers, half-open like `range`: `LayerWindow(8, 10)` is layers 8 and 9.
    """

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop:
            raise RequestError(
                f"layer range [{self.start}, {self.stop}] is empty",
                "a range is half-open: `8 10` means layers 8 and 9",
            )

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.stop))

    def __contains__(self, layer: object) -> bool:
        return layer in range(self.start, self.stop)

    def overlap(self, layers: Iterable[int]) -> float:
        """Return intersection over union with `layers`, from 0 (apart) to 1 (the same)."""
        mine, theirs = set(self), set(layers)
        return len(mine & theirs) / len(mine | theirs)


def sliding_windows(n_layers: int, width: int) -> tuple[LayerWindow, ...]:
    """
    Return all `n_layers - width + 1` windows of `width` layers, in order.

    LocoGen Algorithm 1, arXiv:2405.01008 (its pseudo-code stops one window early).
    """
    if not 1 <= width <= n_layers:
        raise RequestError(
            f"window width {width} is not between 1 and {n_layers}, the number of layers"
        )
    return tuple(LayerWindow(start, start + width) for start in range(n_layers - width + 1))


def parse_layers(text: str) -> tuple[int, ...]:
    """Return the layers of a list such as `"1-3,10,11"`, ends included, sorted, each once."""
    layers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = (first, last) if dash else (first, first)
        if not all(end.isdecimal() for end in ends):
            raise RequestError(
                f"layer list `{text}` is not numbers and ranges", 'write it like `"1-3,10,11"`'
            )
        if max(map(len, ends)) > MOST_DIGITS:
            longest = max(ends, key=len)
            raise RequestError(f"layer list `{text}` names layer {longest}: no model has so many")
        start, stop = map(int, ends)
        if stop < start:
            raise RequestError(f"layer list `{text}` runs backwards in `{part.strip()}`")
        layers.update(range(start, stop + 1))
    return tuple(sorted(layers))


def as_window(layers: Iterable[int]) -> LayerWindow | None:
    """Return the window that holds exactly `layers`, or None where they do not touch."""
    found = sorted(set(layers))
    if not found or found[-1] - found[0] + 1 != len(found):
        return None
    return LayerWindow(found[0], found[-1] + 1)
