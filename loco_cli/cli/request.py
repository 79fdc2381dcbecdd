"""What a command line asks for, as a recipe and as words for a manifest."""

import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from loco_cli.concept import ConceptKind
from loco_cli.errors import RequestError
from loco_cli.layers import LayerSet

if TYPE_CHECKING:
    from loco_cli.recipe import Recipe


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
    from loco_cli.recipe import Override, read_recipe  # a third of a second, not for `--help`

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


def layer_list(layers: str | None, layer_range: tuple[int, int] | None = None) -> LayerSet | None:
    """Return the layers of `--layers`, None where it was not given; raise where both were."""
    if layers is None:
        return None
    if layer_range is not None:
        raise RequestError("`--layers` and `--layer-range` say the same thing", "give one of them")
    return LayerSet.parse(layers)


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
