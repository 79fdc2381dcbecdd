"""
Records to one self-contained page each: no script, nothing fetched, pictures inside.

All text goes through Jinja's autoescape, and the page's own policy forbids any request.
"""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from loco_cli.drift import Drift
from loco_cli.evaluation import Evaluation
from loco_cli.localization import Localization
from loco_cli.manifest import EditRecord, Manifest
from loco_cli.report import words
from loco_cli.report.chart import Chart, describe, layer_chart
from loco_cli.report.ladder import Ladder
from loco_cli.report.pictures import BeforeAfter, LocalizationRun, data_uri
from loco_cli.report.strips import Strip, ask_again, swap_strips
from loco_cli.report.traced import Traced
from loco_cli.strength import Strength

Item = TypeVar("Item")

# key, rank, relative change, rounding error
TensorFacts = tuple[str, int | None, float, float | None]

HALF = 0.5  # of the full swap's effect: with less, a window does not hold the concept alone


@dataclass(frozen=True)
class LocalizationView:
    """
    A localization as its part of a page shows it.

    `paths` are the module paths that are known, `titles` what a tooltip says of each candidate.
    """

    record: Localization
    is_half: bool  # whether it does half of the full swap, so that it is named
    paths: Mapping[int, str]
    titles: Mapping[tuple[int, ...], str]
    chart: Chart
    strips: tuple[Strip, ...]

    @classmethod
    def of(cls, swept: LocalizationRun, module_paths: Sequence[str] = ()) -> "LocalizationView":
        """Return what the page needs of a localization."""
        found = swept.localization
        paths = dict(enumerate(swept.module_paths or module_paths))
        paths |= {layer.layer: layer.module_path for layer in found.layers}
        return cls(
            record=found,
            is_half=found.does(HALF),
            paths=paths,
            titles={score.layer_set: describe(score, paths) for score in found.scores},
            chart=layer_chart(found, paths),
            strips=swap_strips(swept),
        )


@dataclass(frozen=True)
class TensorLine:
    """One changed tensor: `TensorLine("unet/model.safetensors", "mid_block.0.weight", 4, ...)`."""

    file: str
    name: str
    rank: int | None
    relative_change: float
    rounding_error: float | None

    @classmethod
    def of(cls, facts: TensorFacts) -> "TensorLine":
        """Return the line of a tensor from its `file:tensor` key and figures."""
        file, _, name = facts[0].rpartition(":")
        return cls(file, name, *facts[1:])


def hashes(manifest: Manifest | None) -> tuple[tuple[str, str], ...]:
    """Return what a manifest has hashed before an edit, by name: itself, the recipe, the base."""
    if manifest is None:
        return ()
    files = ((f"base of the edit: {file.path}", file.sha256) for file in manifest.base.files)
    named = (
        ("manifest, as in the stamp", manifest.digest()),
        ("recipe of the edit", manifest.recipe.sha256),
    )
    return (*named, *files)


def render_localization_report(
    sweeps: Sequence[LocalizationRun], *, command: Sequence[str] = ()
) -> str:
    """Return the page of one or several localizations: chart, scores, every picture."""
    found = [LocalizationView.of(sweep) for sweep in sweeps]
    model = found[0].record.model.name
    names = words.listed(dict.fromkeys(one.record.concept.subject for one in found))
    title = f"Where {model} keeps {names}"
    return _render("localization.html", title=title, found=found, command=command)


def render_trace_report(traced: Sequence[Traced], *, command: Sequence[str] = ()) -> str:
    """Return the page of one or several traces: heat maps, pictures, every score."""
    first = traced[0].trace
    names = words.listed(dict.fromkeys(one.trace.concept.subject for one in traced))
    title = f"Which states of {first.model.name} carry {names}"
    return _render("trace.html", title=title, traced=traced, command=command)


def render_edit_report(
    *,
    title: str,
    model: str,
    edits: Sequence[EditRecord],
    localizations: Sequence[Localization | LocalizationRun],
    tensors: Sequence[TensorFacts],
    preserved: Sequence[str],
    recipe: str,
    command: Sequence[str],
    drift: Drift | None = None,
    strength: Strength | None = None,
    module_paths: Sequence[str] = (),
    manifest: Manifest | None = None,
) -> str:
    """
    Return the page of an edit: what was edited where, how far each tensor moved, and from what.

    A localization may come with its pictures. `module_paths` are those of all layers in order;
    without them only layers that were localized show theirs.
    """
    sweeps = [
        one if isinstance(one, LocalizationRun) else LocalizationRun(one) for one in localizations
    ]
    found = [LocalizationView.of(sweep, module_paths) for sweep in sweeps]
    lines = [TensorLine.of(facts) for facts in tensors]
    paths = dict(enumerate(module_paths))
    for one in found:
        paths |= one.paths
    return _render(
        "edit.html",
        title=title,
        model=model,
        edits=edits,
        paths=paths,
        found=found,
        files=_grouped(lines, lambda line: line.file),
        largest=max((line.relative_change for line in lines), default=0.0),
        preserved=preserved,
        drift=drift,
        ladder=Ladder.of(strength),
        recipe=recipe,
        command=command,
        hashes=hashes(manifest),
    )


def render_evaluation_report(
    evaluation: Evaluation,
    pairs: Iterable[BeforeAfter],
    *,
    title: str,
    recipe: str,
    command: Sequence[str],
    strength: Strength | None = None,
    manifest: Manifest | None = None,
) -> str:
    """
    Return the page of an evaluation: the figures, and every prompt before and after.

    `strength` is what chose that of an edit that was made for it, `manifest` that of one that was
    written before.
    """
    forget, keep = ask_again(evaluation, pairs)
    return _render(
        "evaluation.html",
        title=title,
        evaluation=evaluation,
        forget=_grouped(forget, lambda asked: asked.row.edit),
        keep=_grouped(keep, lambda asked: asked.row.concept),
        ladder=Ladder.of(strength),
        recipe=recipe,
        command=command,
        hashes=hashes(manifest),
    )


def _grouped(items: Iterable[Item], key: Callable[[Item], Any]) -> dict[Any, list[Item]]:
    groups: dict[Any, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _render(template: str, **values: Any) -> str:
    return words.writable(_environment().get_template(template).render(**values))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        data_uri=data_uri,
        percent=words.percent,
        score=words.score_words,
        small=words.small,
        span=words.layer_span,
        layers=words.layer_words,
        as_range=words.range_words,
        shell=shlex.join,
    )
    return environment
