"""Groups of options that several commands share, and the recipe that a command line describes."""

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
class ConceptOptions:
    """Options that complete the concept or recipe of the argument."""

    model: o.Model = None
    to: o.To = None
    kind: o.Kind = None


@dataclass(frozen=True)
class LayerOptions:
    """Options that name the layers, so that no search is needed."""

    layer_range: o.LayerRange = None
    layers: o.Layers = None

    def overrides(self) -> dict[str, Any]:
        """Return the recipe overrides; raises RequestError if both options are given."""
        if self.layers is None:
            return {"edit_layer_range": self.layer_range}
        if self.layer_range is not None:
            raise RequestError(
                "`--layers` and `--layer-range` cannot be combined", "pass only one of them"
            )
        return {"edit_layers": LayerSet.parse(self.layers)}

    def named(self) -> Sequence[int] | None:
        """Return the named layers, if any; raises RequestError if both options are given."""
        overrides = self.overrides()
        if self.layer_range is None:
            return overrides.get("edit_layers")
        start, stop = self.layer_range
        if stop <= start:
            raise RequestError(
                f"layer range [{start}, {stop}] is empty",
                "the range is half-open: `8 10` means layers 8 and 9",
            )
        return range(start, stop)


@dataclass(frozen=True)
class SolverOptions:
    """Options of the editing method."""

    method: o.EditMethod = None
    ridge: o.RidgePrice = None
    neurons: o.Neurons = None

    def overrides(self) -> dict[str, Any]:
        """Return the recipe overrides."""
        return {f"edit_{field.name}": getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class SamplingOptions:
    """Options for the generated images, their scorer, their cache, and any other recipe key."""

    seeds: o.Seeds = None
    steps: o.Steps = None
    guidance: o.Guidance = None
    scorer: o.Scorer = None
    settings: o.Set = None
    no_cache: o.NoCache = False

    def overrides(self, section: str) -> dict[str, Any]:
        """Return the overrides of a recipe section: `{"localize_seeds": 4, ...}`."""
        names = ("seeds", "steps", "guidance")
        return {f"{section}_{name}": getattr(self, name) for name in names}


@dataclass(frozen=True)
class MachineOptions:
    """Options for the device and its memory."""

    device: o.Device = "auto"
    dtype: o.Dtype = "auto"
    batch_size: o.BatchSize = None

    def run_options(self, sampling: SamplingOptions | None = None) -> "RunOptions":
        """Return these options as `RunOptions`, with scorer and cache; this imports torch."""
        from loco_cli.models.session import RunOptions

        sampling = sampling or SamplingOptions()
        return RunOptions(
            self.device,
            self.dtype,
            self.batch_size or "auto",
            sampling.scorer,
            not sampling.no_cache,
        )


@dataclass(frozen=True)
class OutputOptions:
    """Options of the output; the last three take effect in their callbacks."""

    output: o.Output = None
    force: o.Force = False
    dry_run: o.DryRun = False
    as_json: o.Json = False
    quiet: o.Quiet = False
    debug: o.Debug = False


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """
    Return a command for Typer whose option groups are replaced by their fields.

    Args:
        command: A function with parameters that are annotated with option groups.

    Returns:
        The function with one keyword parameter for each option, in the place of its group.

    Example:
        @spread
        def generate(ctx: typer.Context, machine: MachineOptions, output: OutputOptions) -> None:
            ...
    """
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
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined] # Typer reads it
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
    Return the recipe that an argument names, overridden by options and `--set`.

    Args:
        argument: A recipe file, a catalog name, or a concept as text.
        model: The value of `--model`.
        to: The target of a concept given as text.
        kind: The kind of a concept given as text.
        prompts: Templates of the source prompts.
        targets: Templates of the target prompts.
        settings: The values of `--set`.
        options: Other overrides. `localize_seeds=4` sets `localize.seeds`, and None sets nothing.

    Raises:
        RecipeError: The recipe cannot be read, or an override does not fit it.
        UnknownName: No recipe has this name.
        ConceptError: The text is not a valid concept.
    """
    from loco_cli.recipe.catalog import read_recipe  # takes 0.3 s, which `--help` cannot spare
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
    """Return the build time of `SOURCE_DATE_EPOCH`, which makes outputs reproducible."""
    if epoch is None:
        return None
    try:
        time = datetime.fromtimestamp(epoch, timezone.utc)
    except (ValueError, OverflowError, OSError) as error:
        raise RequestError(
            f"`SOURCE_DATE_EPOCH` is `{epoch}`, which is outside the range of dates"
        ) from error
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def command_line() -> tuple[str, ...]:
    """Return the command line with absolute paths and the home folder reduced to file names."""
    return ("loco", *map(_without_folder, sys.argv[1:]))


def _without_folder(word: str) -> str:
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    home = str(Path.home())
    has_folder = Path(value).is_absolute() or (home != "/" and home in value)
    return f"{option}{equals}{Path(value).name if has_folder else value}"
