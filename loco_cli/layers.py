"""Sets of layers; a layer is an integer in execution order."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from loco_cli.errors import RequestError

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

_MAX_DIGITS = 3  # digits of a layer number; a longer one is a typo, and its range fills memory


class LayerSet(tuple[int, ...]):
    """
    Layers in execution order, without duplicates: `LayerSet((9, 8))` is layers 8 and 9.

    A set is the tuple of its layers; the set of a text-encoder edit is empty. Documents and recipes
    have contiguous layers as a half-open range, `layer_range: [8, 10]`, and others as a list,
    `layers: [1, 2, 10]`. `to_keys` and `from_keys` implement this rule.
    """

    __slots__ = ()

    def __new__(cls, layers: Iterable[int] = ()) -> "LayerSet":
        return super().__new__(cls, sorted(set(layers)))

    @classmethod
    def window(cls, start: int, stop: int) -> "LayerSet":
        """Return the layers of a half-open range: `LayerSet.window(8, 10)` is layers 8 and 9."""
        if not 0 <= start < stop:
            raise ValueError(f"layer range [{start}, {stop}] is empty")
        return cls(range(start, stop))

    @classmethod
    def parse(cls, text: str) -> "LayerSet":
        """
        Return the layers of a list such as `"1-3,10,11"`; a range includes both ends.

        Raises:
            RequestError: The list does not consist of numbers and ranges, a range is reversed, or a
                number is too large.
        """
        layers: set[int] = set()
        for part in text.split(","):
            first, dash, last = part.strip().partition("-")
            ends = (first, last) if dash else (first, first)
            if not all(end.isdecimal() for end in ends):
                raise RequestError(
                    f"layer list `{text}` does not consist of numbers and ranges",
                    'write it like `"1-3,10,11"`',
                )
            if max(map(len, ends)) > _MAX_DIGITS:
                longest = max(ends, key=len)
                raise RequestError(
                    f"layer list `{text}` names layer {longest}; no model has that many"
                )
            start, stop = map(int, ends)
            if stop < start:
                raise RequestError(
                    f"in layer list `{text}`, the ends of the range `{part.strip()}` are reversed"
                )
            layers.update(range(start, stop + 1))
        return cls(layers)

    @classmethod
    def from_keys(
        cls, layer_range: tuple[int, int] | None, layers: Iterable[int] | None
    ) -> "LayerSet":
        """Return the layers of a document that has one of the two keys, or an empty set."""
        return cls.window(*layer_range) if layer_range else cls(layers or ())

    def to_keys(self) -> dict[str, Any]:
        """Return both keys of a document; at most one has a value."""
        layers = tuple(self) if self and not self.range else None
        return {"layer_range": self.range, "layers": layers}

    @property
    def range(self) -> tuple[int, int] | None:
        """The half-open range of contiguous layers; None for other sets."""
        if not self or self[-1] - self[0] + 1 != len(self):
            return None
        return self[0], self[-1] + 1

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: "GetCoreSchemaHandler"
    ) -> "CoreSchema":
        # imported here because it takes a tenth of a second, too much for `--help`
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(cls, handler(tuple[int, ...]))


def sliding_windows(n_layers: int, width: int) -> tuple[LayerSet, ...]:
    """
    Return all `n_layers - width + 1` windows of `width` layers, in order.

    LocoGen Algorithm 1, arXiv:2405.01008. The pseudo-code of the paper omits the last window.

    Raises:
        RequestError: `width` is not between 1 and `n_layers`.
    """
    if not 1 <= width <= n_layers:
        raise RequestError(
            f"window width {width} is not between 1 and {n_layers}, the number of layers"
        )
    return tuple(LayerSet.window(start, start + width) for start in range(n_layers - width + 1))
