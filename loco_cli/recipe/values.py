"""
Types of recipe values and their parsers.

A parser raises ValueError with the end of a sentence; the message begins with the key:
"`edit.ridge`" + "is `-1`, not ...".
"""

import json
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)

from loco_cli.layers import LayerSet
from loco_cli.protocol.seeds import MAX_SEEDS


@dataclass(frozen=True)
class Ridge:
    """
    The cost of changing weights: `Ridge(0.01)` is λ, `Ridge(0.01, is_relative=True)` is `'0.01x'`.

    A relative ridge is a multiple of the mean squared norm of the keys.
    """

    value: float
    is_relative: bool = False

    def resolve(self, mean_squared_norm: float) -> float:
        """Return λ for keys with the given mean squared norm."""
        return self.value * mean_squared_norm if self.is_relative else self.value

    def __str__(self) -> str:
        return f"{self.value!r}x" if self.is_relative else repr(self.value)


def quoted(value: Any) -> str:
    """Return a value for an error message: in backticks, in YAML notation, cut at 60 characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return f"`{text if len(text) <= 60 else text[:57] + '...'}`"


def parse_ridge(value: Any) -> Ridge | Literal["auto"]:
    """
    Parse a ridge: `auto`, a number, or a multiple such as `'0.01x'`.

    Raises:
        ValueError: The value has another form, or is not above 0.
    """
    if isinstance(value, Ridge):
        return value
    if value == "auto":
        return "auto"
    is_relative = isinstance(value, str) and value.endswith("x")
    try:
        ridge = math.nan if isinstance(value, bool) else float(value[:-1] if is_relative else value)
    except (TypeError, ValueError, OverflowError):
        ridge = math.nan
    if not 0 < ridge < math.inf:
        raise ValueError(
            f"is {quoted(value)}, not `auto`, a number above 0, or a multiple such as `0.01x`"
        )
    return Ridge(ridge, is_relative)


def _parse_layer_range(value: Any) -> tuple[int, int] | Literal["auto", "published"] | None:
    """Parse a range: `auto`, `published` or two layers; None if `layers` replaces it."""
    if value is None:
        return value
    if value == "auto" or value == "published":
        return "auto" if value == "auto" else "published"
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f"is {quoted(value)}, not `auto`, `published` or two layers")
    start, stop = map(_layer, value)
    if stop <= start:
        hint = "a range is half-open: `8 10` means layers 8 and 9"
        raise ValueError(f"is {quoted(value)}, which is empty; {hint}")
    return start, stop


def _parse_layer_list(value: Any) -> LayerSet:
    """Parse a list of layers without duplicates."""
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"is {quoted(value)}, not a list of layers such as `[1, 2, 10]`")
    layers = LayerSet(map(_layer, value))
    if len(layers) < len(value):
        raise ValueError(f"is {quoted(value)}, which names a layer twice")
    return layers


def _parse_width(value: Any) -> int | Literal["auto"]:
    """Parse a width: `auto` or a number of layers."""
    if value == "auto":
        return "auto"
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"is {quoted(value)}, not `auto` or a number of layers")
    return value


def _parse_neurons(value: Any) -> int | Literal["auto"]:
    """Parse a number of neurons: `auto` or at least 1."""
    if value == "auto":
        return "auto"
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"is {quoted(value)}, not `auto` or a whole number above 0")
    return value


def _parse_preserve(value: Any) -> Literal["auto", "none"] | tuple[str, ...]:
    """Parse `preserve`: `auto`, `none`, or subjects and prompts, without duplicates."""
    if value == "auto" or value == "none":
        return "auto" if value == "auto" else "none"
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"is {quoted(value)}, not `auto`, `none` or a list of subjects or prompts")
    if not value:
        raise ValueError("is empty; use `none`")
    if not all(one.strip() for one in value):
        raise ValueError("has an empty entry")
    return tuple(dict.fromkeys(value))


def _layer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"contains {quoted(value)}; a layer is a whole number, at least 0")
    return value


def _not_bool(value: Any) -> Any:
    # Python treats booleans as integers: `seeds: true` would mean one seed
    if isinstance(value, bool):
        raise ValueError(f"is {quoted(value)}, not a number")
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty")
    return value


def _plain_ridge(value: Ridge | str) -> str | float:
    return value.value if isinstance(value, Ridge) and not value.is_relative else str(value)


def _plain_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


_LAYERS = {"type": "array", "items": {"type": "integer", "minimum": 0}}
_RANGE = {**_LAYERS, "minItems": 2, "maxItems": 2}
_TEXTS = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}

Text = Annotated[str, AfterValidator(_not_blank), Field(min_length=1)]
Texts = Annotated[tuple[Text, ...], Field(min_length=1)]
Version = Annotated[Literal[1], BeforeValidator(_not_bool)]
Count = Annotated[int, BeforeValidator(_not_bool), Field(ge=1)]
Seeds = Annotated[int, BeforeValidator(_not_bool), Field(ge=1, le=MAX_SEEDS)]
Share = Annotated[float, BeforeValidator(_not_bool), Field(gt=0, le=1)]
Number = Annotated[float, BeforeValidator(_not_bool), Field(ge=0)]
RidgeValue = Annotated[
    Ridge | Literal["auto"],
    PlainValidator(parse_ridge),
    PlainSerializer(_plain_ridge),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["auto"]},
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": r"^[0-9.eE+-]+x$"},
            ]
        }
    ),
]
LayerRange = Annotated[
    tuple[int, int] | Literal["auto", "published"] | None,
    PlainValidator(_parse_layer_range),
    PlainSerializer(_plain_list),
    WithJsonSchema({"anyOf": [{"enum": ["auto", "published"]}, _RANGE]}),
]
LayerList = Annotated[
    LayerSet | None,
    PlainValidator(_parse_layer_list),
    PlainSerializer(_plain_list),
    WithJsonSchema({**_LAYERS, "minItems": 1, "uniqueItems": True}),
]
Width = Annotated[
    int | Literal["auto"],
    PlainValidator(_parse_width),
    PlainSerializer(lambda value: value),
    WithJsonSchema({"anyOf": [{"enum": ["auto"]}, {"type": "integer", "minimum": 1}]}),
]
Neurons = Annotated[
    int | Literal["auto"],
    PlainValidator(_parse_neurons),
    PlainSerializer(lambda value: value),
    WithJsonSchema({"anyOf": [{"enum": ["auto"]}, {"type": "integer", "minimum": 1}]}),
]
Preserve = Annotated[
    Literal["auto", "none"] | tuple[str, ...],
    PlainValidator(_parse_preserve),
    PlainSerializer(_plain_list),
    WithJsonSchema({"anyOf": [{"enum": ["auto", "none"]}, _TEXTS]}),
]
