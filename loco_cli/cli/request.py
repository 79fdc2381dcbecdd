"""
The request of a command line: options that several commands take together, and its recipe.

    @spread
    def generate(ctx: typer.Context, computing: Computing, result: Result) -> None:

On the command line the fields of a group stand in the place of its argument.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime, timezone
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from loco_cli.cli import options as o
from loco_cli.concept import ConceptKind
from loco_cli.errors import RequestError
from loco_cli.layers import LayerSet

if TYPE_CHECKING:
    from loco_cli.models.session import RunOptions
    from loco_cli.recipe.record import Recipe


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
        if self.layers is None:
            return {"edit_layer_range": self.layer_range}
        if self.layer_range is not None:
            raise RequestError(
                "`--layers` and `--layer-range` say the same thing", "give one of them"
            )
        return {"edit_layers": LayerSet.parse(self.layers)}

    def named(self) -> Sequence[int] | None:
        """Return the layers, None where none are named; raises RequestError where both are."""
        overrides = self.overrides()
        if self.layer_range is None:
            return overrides.get("edit_layers")
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


def recipe_of(
    argument: str,
    *,
    model: str | None = None,
    to: str | None = None,
    kind: ConceptKind | None = None,
    prompts: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    settings: Sequence[str] | None = None,
    **options: object,
) -> "Recipe":
    """
    Return the recipe of an argument, with every option and `--set` laid over it.

    `options` are named after recipe keys, `localize_seeds=4` for `localize.seeds`; None is unset.
    """
    from loco_cli.recipe.catalog import read_recipe  # a third of a second, not for `--help`
    from loco_cli.recipe.load import Override

    given = {
        f"--{name.partition('_')[2].replace('_', '-')}": (name.replace("_", ".", 1), value)
        for name, value in options.items()
    }
    overrides = (
        *Override.of_options({"--model": ("model", model), **given}),
        *map(Override.parse, settings or ()),
    )
    return read_recipe(
        argument,
        kind=kind,
        to=to,
        sources=tuple(prompts or ()),
        targets=tuple(targets or ()),
        overrides=overrides,
    )


def build_time(epoch: int | None) -> str | None:
    """Return the time that `SOURCE_DATE_EPOCH` fixes, so that outputs repeat byte for byte."""
    if epoch is None:
        return None
    try:
        time = datetime.fromtimestamp(epoch, timezone.utc)
    except (ValueError, OverflowError, OSError) as error:
        raise RequestError(f"`SOURCE_DATE_EPOCH` is `{epoch}`, which is no time") from error
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def command_line() -> tuple[str, ...]:
    """Return the command as it was typed, home folder and absolute paths shortened to names."""
    return ("loco", *map(_without_place, sys.argv[1:]))


def _without_place(word: str) -> str:
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    home = str(Path.home())
    is_place = Path(value).is_absolute() or (home != "/" and home in value)
    return f"{option}{equals}{Path(value).name if is_place else value}"
