"""Layers are integers in execution order; a set of them is a window where they touch."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from loco_cli.errors import RequestError

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

_MAX_DIGITS = 3  # digits of a layer number; a typo must not fill the memory


class LayerSet(tuple[int, ...]):
    """
    Some layers in execution order, each once: `LayerSet((9, 8))` is layers 8 and 9.

    It is the tuple of its layers. An edit of a text encoder is in no layers of the UNet: `not
    layers`. Documents and recipes write layers that touch as a half-open range, `layer_range: [8,
    10]`, and all others as a list, `layers: [1, 2, 10]`: `to_keys` and `from_keys` are this rule.
    """

    __slots__ = ()

    def __new__(cls, layers: Iterable[int] = ()) -> "LayerSet":
        return super().__new__(cls, sorted(set(layers)))

    @classmethod
    def window(cls, start: int, stop: int) -> "LayerSet":
        """Return consecutive layers, half-open: `LayerSet.window(8, 10)` is layers 8 and 9."""
        if not 0 <= start < stop:
            raise ValueError(f"layer range [{start}, {stop}] is empty")
        return cls(range(start, stop))

    @classmethod
    def parse(cls, text: str) -> "LayerSet":
        """Return the layers of a list such as `"1-3,10,11"`, the ends of a range included."""
        layers: set[int] = set()
        for part in text.split(","):
            first, dash, last = part.strip().partition("-")
            ends = (first, last) if dash else (first, first)
            if not all(end.isdecimal() for end in ends):
                raise RequestError(
                    f"layer list `{text}` is not numbers and ranges", 'write it like `"1-3,10,11"`'
                )
            if max(map(len, ends)) > _MAX_DIGITS:
                longest = max(ends, key=len)
                raise RequestError(
                    f"layer list `{text}` names layer {longest}: no model has so many"
                )
            start, stop = map(int, ends)
            if stop < start:
                raise RequestError(f"layer list `{text}` runs backwards in `{part.strip()}`")
            layers.update(range(start, stop + 1))
        return cls(layers)

    @classmethod
    def from_keys(
        cls, layer_range: tuple[int, int] | None, layers: Iterable[int] | None
    ) -> "LayerSet":
        """Return the layers that a document names by either key; no layers where both are None."""
        return cls.window(*layer_range) if layer_range else cls(layers or ())

    def to_keys(self) -> dict[str, Any]:
        """Return both keys of a document, of which at most one has a value."""
        layers = tuple(self) if self and not self.range else None
        return {"layer_range": self.range, "layers": layers}

    @property
    def range(self) -> tuple[int, int] | None:
        """First layer and end of the half-open range; None where the layers do not touch."""
        if not self or self[-1] - self[0] + 1 != len(self):
            return None
        return self[0], self[-1] + 1

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: "GetCoreSchemaHandler"
    ) -> "CoreSchema":
        from pydantic_core import core_schema  # a tenth of a second of `--help`

        return core_schema.no_info_after_validator_function(cls, handler(tuple[int, ...]))


def sliding_windows(n_layers: int, width: int) -> tuple[LayerSet, ...]:
    """
    Return all `n_layers - width + 1` windows of `width` layers, in order.

    LocoGen Algorithm 1, arXiv:2405.01008 (its pseudo-code stops one window early).
    """
    if not 1 <= width <= n_layers:
        raise RequestError(
            f"window width {width} is not between 1 and {n_layers}, the number of layers"
        )
    return tuple(LayerSet.window(start, start + width) for start in range(n_layers - width + 1))
