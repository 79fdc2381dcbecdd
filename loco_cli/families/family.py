"""A checkpoint's spec from its shape: the known model that fits, else its family at its widths."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from loco_cli.families import registry
from loco_cli.families.deepfloyd import if_layers
from loco_cli.families.sd import sd1_layers
from loco_cli.families.sdxl import sdxl_layers
from loco_cli.families.spec import CrossAttention, Family, ModelSpec


@dataclass(frozen=True)
class _Shape:
    """What a family's members share; the facts of `model` stand for those of unknown widths."""

    title: str
    model: str
    n_blocks: int
    layers: Callable[[Any], tuple[CrossAttention, ...]]


_FAMILIES: Mapping[Family, _Shape] = {
    "sd1": _Shape("Stable Diffusion 1.x", "sd15", 4, sd1_layers),
    "sd2": _Shape("Stable Diffusion 2.x", "sd21", 4, sd1_layers),
    "sdxl": _Shape("Stable Diffusion XL", "sdxl", 3, sdxl_layers),
    "if": _Shape("DeepFloyd IF", "deepfloyd", 4, if_layers),
}


def n_blocks(family: Family) -> int:
    """Return how many down blocks a UNet of this family has, each with a width."""
    return _FAMILIES[family].n_blocks


def layers_of(family: Family, widths: Sequence[int]) -> tuple[CrossAttention, ...]:
    """Return the cross-attention layers of a UNet with these block widths, in execution order."""
    if len(widths) != n_blocks(family):
        raise ValueError(f"a UNet of family {family} has {n_blocks(family)} block widths")
    return _FAMILIES[family].layers(tuple(widths))


def standard_model(family: Family) -> ModelSpec:
    """Return the model that a family is known for, whose facts stand for unknown widths."""
    return registry.get(_FAMILIES[family].model)


def spec_for(
    family: Family,
    widths: Sequence[int],
    d_text: int,
    *,
    architecture: str | None = None,
    prediction: str | None = None,
) -> ModelSpec:
    """
    Return what is known of a checkpoint with this UNet.

    Models of one shape (SD 2.1 and its base, SDXL and its Turbo) differ in no tensor's name or
    size. What tells them apart is `architecture`, a file's `modelspec.architecture`, or
    `prediction`, the word of a folder's scheduler; without either it is the first of them.
    """
    layers = layers_of(family, widths)
    fitting = [
        spec
        for spec in map(registry.get, registry.names())
        if (spec.family, spec.d_text, spec.layers) == (family, d_text, layers)
    ]
    if fitting:
        return max(
            fitting,
            key=lambda spec: (spec.architecture == architecture, spec.prediction == prediction),
        )
    model = standard_model(family)
    encoders = tuple(
        replace(encoder, width=None, n_layers=None) for encoder in model.context.encoders
    )
    return replace(
        model,
        name=family,
        title=_FAMILIES[family].title,
        hub_id=None,
        d_text=d_text,
        layers=layers,
        context=replace(model.context, encoders=encoders),
        licence=None,
        config=None,
    )
