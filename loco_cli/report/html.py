"""
Self-contained HTML pages of localizations, edits and evaluations, without scripts or requests.

Jinja escapes all text, and the content security policy of each page forbids every request.
"""

import base64
import io
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from loco_cli.evaluation import BeforeAfter, Evaluation
from loco_cli.localization import Localization, LocalizationRun
from loco_cli.manifest import Manifest, Strength, TensorEdit
from loco_cli.report import sentences
from loco_cli.report.chart import Chart, Ladder, describe, layer_chart
from loco_cli.report.localization import MIN_NAMED_EFFECT
from loco_cli.report.sheet import Strip, group_pairs, swap_strips

_Item = TypeVar("_Item")

MAX_PICTURE_SIDE = 256  # pixels; twice the size on the page, for high-resolution screens


@dataclass(frozen=True)
class _LocalizationView:
    """
    The section of a page about one localization.

    `paths` holds the known module paths, `titles` the tooltip of each candidate.
    """

    record: Localization
    is_named: bool  # the effect is large enough to say that these layers hold the concept
    paths: Mapping[int, str]
    titles: Mapping[tuple[int, ...], str]
    chart: Chart
    strips: tuple[Strip, ...]

    @classmethod
    def of(cls, run: LocalizationRun, module_paths: Sequence[str] = ()) -> "_LocalizationView":
        """Build the section of a localization."""
        localization = run.localization
        paths = dict(enumerate(run.module_paths or module_paths))
        paths |= {layer.layer: layer.module_path for layer in localization.layers}
        return cls(
            record=localization,
            is_named=localization.reaches(MIN_NAMED_EFFECT),
            paths=paths,
            titles={score.layer_set: describe(score, paths) for score in localization.scores},
            chart=layer_chart(localization, paths),
            strips=swap_strips(run),
        )


def _hashes(manifest: Manifest | None) -> tuple[tuple[str, str], ...]:
    """Return the hashes in a manifest with their names: its own, the recipe's, the base's."""
    if manifest is None:
        return ()
    files = ((f"base of the edit: {file.path}", file.sha256) for file in manifest.base.files)
    named = (
        ("manifest, as in the stamp", manifest.digest()),
        ("recipe of the edit", manifest.recipe.sha256),
    )
    return (*named, *files)


def render_localization_report(
    runs: Sequence[LocalizationRun], *, command: Sequence[str] = ()
) -> str:
    """
    Render the page of one or more localizations: charts, scores and every picture.

    Args:
        runs: Localizations of one model, with their pictures.
        command: The command line that made them.
    """
    views = [_LocalizationView.of(run) for run in runs]
    model = views[0].record.model.name
    names = sentences.join_words(dict.fromkeys(view.record.concept.subject for view in views))
    title = f"Where {model} keeps {names}"
    return render_page("localization.html", title=title, views=views, command=command)


def render_edit_report(
    manifest: Manifest,
    *,
    title: str,
    localizations: Sequence[LocalizationRun],
    tensors: Sequence[TensorEdit],
    module_paths: Sequence[str] = (),
) -> str:
    """
    Render the page of an edit: its concepts and layers, and the change of every tensor.

    Args:
        manifest: The manifest of the edit.
        title: Heading of the page.
        localizations: The localizations that chose the layers, with or without pictures.
        tensors: The changed tensors, in the order in which they were written.
        module_paths: The path of every layer, in execution order. Without them the page shows
            paths of localized layers only.
    """
    views = [_LocalizationView.of(run, module_paths) for run in localizations]
    paths = dict(enumerate(module_paths))
    for view in views:
        paths |= view.paths
    return render_page(
        "edit.html",
        title=title,
        model=manifest.model.name,
        edits=manifest.edits,
        paths=paths,
        views=views,
        files=_grouped(tensors, lambda tensor: tensor.file),
        largest=max((tensor.relative_change for tensor in tensors), default=0.0),
        preserved=manifest.preserve,
        drift=manifest.drift,
        ladder=Ladder.of(manifest.strength),
        recipe=manifest.recipe.text,
        command=manifest.command,
        hashes=_hashes(manifest),
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
    Render the page of an evaluation: the figures, and every prompt before and after the edit.

    Args:
        evaluation: The figures, and the mean scores of every prompt.
        pairs: The pictures before and after, one pair per prompt and seed.
        title: Heading of the page.
        recipe: Text of the recipe.
        command: The command line that made the evaluation.
        strength: The measured strength, if the evaluation made the edit in memory.
        manifest: The manifest of the edit, if the evaluation read it from disk.
    """
    forget, keep = group_pairs(evaluation, pairs)
    return render_page(
        "evaluation.html",
        title=title,
        evaluation=evaluation,
        forget=_grouped(forget, lambda prompt: prompt.row.edit),
        keep=_grouped(keep, lambda prompt: prompt.row.concept),
        ladder=Ladder.of(strength),
        recipe=recipe,
        command=command,
        hashes=_hashes(manifest),
    )


def _grouped(items: Iterable[_Item], key: Callable[[_Item], Any]) -> dict[Any, list[_Item]]:
    groups: dict[Any, list[_Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def render_page(template: str, **values: Any) -> str:
    """Render a page from its template and values."""
    return sentences.encodable(_environment().get_template(template).render(**values))


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
        data_uri=_data_uri,
        percent=sentences.percent,
        score=sentences.score_words,
        short=sentences.short_number,
        span=sentences.layer_span,
        layers=sentences.layer_words,
        as_range=sentences.range_words,
        shell=shlex.join,
    )
    return environment


def _data_uri(png: bytes) -> str:
    """Return a picture as a data URI, scaled down to the size that a page needs."""
    image = Image.open(io.BytesIO(png))
    if max(image.size) > MAX_PICTURE_SIDE:
        image.thumbnail((MAX_PICTURE_SIDE, MAX_PICTURE_SIDE), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "PNG", optimize=True)
        png = buffer.getvalue()
    return "data:image/png;base64," + base64.b64encode(png).decode()
