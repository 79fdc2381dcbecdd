"""
Records to one self-contained page each: no script, nothing fetched, pictures inside.

All text goes through Jinja's autoescape, and the page's own policy forbids any request.
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
from loco_cli.report.sheet import Strip, ask_again, swap_strips

_Item = TypeVar("_Item")

MAX_SIDE = 256  # pixels of a picture; twice what a page shows, for fine screens


@dataclass(frozen=True)
class _LocalizationView:
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
    def of(cls, swept: LocalizationRun, module_paths: Sequence[str] = ()) -> "_LocalizationView":
        """Return the view of a localization."""
        found = swept.localization
        paths = dict(enumerate(swept.module_paths or module_paths))
        paths |= {layer.layer: layer.module_path for layer in found.layers}
        return cls(
            record=found,
            is_half=found.does(sentences.HALF),
            paths=paths,
            titles={score.layer_set: describe(score, paths) for score in found.scores},
            chart=layer_chart(found, paths),
            strips=swap_strips(swept),
        )


def _hashes(manifest: Manifest | None) -> tuple[tuple[str, str], ...]:
    """Return the hashes in a manifest by name: its own, the recipe's, those of the base."""
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
    found = [_LocalizationView.of(sweep) for sweep in sweeps]
    model = found[0].record.model.name
    names = sentences.listed(dict.fromkeys(one.record.concept.subject for one in found))
    title = f"Where {model} keeps {names}"
    return render_page("localization.html", title=title, found=found, command=command)


def render_edit_report(
    manifest: Manifest,
    *,
    title: str,
    localizations: Sequence[LocalizationRun],
    tensors: Sequence[TensorEdit],
    module_paths: Sequence[str] = (),
) -> str:
    """
    Return the page of an edit: what was edited where, how far each tensor moved, and from what.

    `module_paths` are those of all layers in order; without them only layers that were localized
    show theirs.
    """
    found = [_LocalizationView.of(run, module_paths) for run in localizations]
    paths = dict(enumerate(module_paths))
    for one in found:
        paths |= one.paths
    return render_page(
        "edit.html",
        title=title,
        model=manifest.model.name,
        edits=manifest.edits,
        paths=paths,
        found=found,
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
    Return the page of an evaluation: the figures, and every prompt before and after.

    `strength` is what chose that of an edit that was made for it, `manifest` that of one that was
    written before.
    """
    forget, keep = ask_again(evaluation, pairs)
    return render_page(
        "evaluation.html",
        title=title,
        evaluation=evaluation,
        forget=_grouped(forget, lambda asked: asked.row.edit),
        keep=_grouped(keep, lambda asked: asked.row.concept),
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
    """Return a page from its template and what that shows."""
    return sentences.writable(_environment().get_template(template).render(**values))


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
        small=sentences.small,
        span=sentences.layer_span,
        layers=sentences.layer_words,
        as_range=sentences.range_words,
        shell=shlex.join,
    )
    return environment


def _data_uri(png: bytes) -> str:
    """Return a picture for the page itself, made smaller where it is larger than a page shows."""
    image = Image.open(io.BytesIO(png))
    if max(image.size) > MAX_SIDE:
        image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "PNG", optimize=True)
        png = buffer.getvalue()
    return "data:image/png;base64," + base64.b64encode(png).decode()
