"""
Options that several commands take together, each group listed once.

    @spread
    def generate(ctx: typer.Context, computing: Computing, result: Result) -> None:

On the command line the fields of a group stand in the place of its argument.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Any, get_type_hints

from loco_cli.cli import options as o
from loco_cli.cli.request import layer_list
from loco_cli.errors import RequestError

if TYPE_CHECKING:
    from loco_cli.models.session import RunOptions


@dataclass(frozen=True)
class Concept:
    """What is found or edited, beside the argument that names it."""

    model: o.Model = None
    to: o.To = None
    kind: o.Kind = None


@dataclass(frozen=True)
class Where:
    """Layers that are named instead of found."""

    layer_range: o.LayerRange = None
    layers: o.Layers = None

    def overrides(self) -> dict[str, Any]:
        """Return what goes over the recipe; raises RequestError where both are given."""
        layers = layer_list(self.layers, self.layer_range)
        return {"edit_layer_range": self.layer_range, "edit_layers": layers}

    def named(self) -> Sequence[int] | None:
        """Return the layers, None where none are named; raises RequestError where both are."""
        layers = layer_list(self.layers, self.layer_range)
        if self.layer_range is None:
            return layers
        start, stop = self.layer_range
        if stop <= start:
            raise RequestError(
                f"layer range [{start}, {stop}] is empty",
                "a range is half-open: `8 10` means layers 8 and 9",
            )
        return range(start, stop)


@dataclass(frozen=True)
class Solving:
    """How the weights are solved for."""

    method: o.EditMethod = None
    ridge: o.RidgePrice = None
    neurons: o.Neurons = None

    def overrides(self) -> dict[str, Any]:
        """Return what goes over the recipe."""
        return {f"edit_{field.name}": getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Running:
    """How a recipe is run otherwise than it says: its pictures, their scorer, any other key."""

    seeds: o.Seeds = None
    steps: o.Steps = None
    guidance: o.Guidance = None
    scorer: o.Scorer = None
    settings: o.Set = None
    no_cache: o.NoCache = False

    def overrides(self, section: str) -> dict[str, Any]:
        """Return what goes over a section of the recipe: `{"localize_seeds": 4, ...}`."""
        names = ("seeds", "steps", "guidance")
        return {f"{section}_{name}": getattr(self, name) for name in names}


@dataclass(frozen=True)
class Computing:
    """What the work is done on."""

    device: o.Device = "auto"
    dtype: o.Dtype = "auto"
    batch_size: o.BatchSize = None

    def machine(self, running: Running | None = None) -> "RunOptions":
        """Return the machine that the options describe; this imports torch."""
        from loco_cli.models.session import RunOptions

        how = running or Running()
        batch_size = self.batch_size or "auto"
        return RunOptions(self.device, self.dtype, batch_size, how.scorer, not how.no_cache)


@dataclass(frozen=True)
class Result:
    """Where the result goes, and how it is told; the last three have told the terminal already."""

    output: o.Output = None
    force: o.Force = False
    dry_run: o.DryRun = False
    as_json: o.Json = False
    quiet: o.Quiet = False
    debug: o.Debug = False


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that takes the fields of its groups as options of its own."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type[Any]] = {
        name: hint for name, hint in hints.items() if isinstance(hint, type) and is_dataclass(hint)
    }

    @wraps(command)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        command(**given)

    parameters: list[Parameter] = []
    for name, parameter in signature(command).parameters.items():
        own = _options_of(groups[name]) if name in groups else [parameter]
        parameters += [one.replace(kind=Parameter.KEYWORD_ONLY) for one in own]
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined] # Typer's way in
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _options_of(group: type[Any]) -> list[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        Parameter(one.name, Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name])
        for one in fields(group)
    ]
