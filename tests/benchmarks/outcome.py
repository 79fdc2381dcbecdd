"""The outcome of one edit as a line of JSON, and of many as Markdown tables."""

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from loco_cli.evaluating.judge import EvaluationRun
from loco_cli.evaluation import BeforeAfter, _harmonic_mean
from loco_cli.protocol.wordings import bare_name
from tests.benchmarks.world import KINDS

FIGURES = ("forgotten", "became", "kept", "kept_preserved", "kept_others")
ENOUGH = 0.95  # what the first three figures should reach


@dataclass(frozen=True)
class Trial:
    """
    One concept of one model to edit in one form: `Trial("tiny", "paper", "key", "style", ...)`.

    `where` says how the layers are chosen; `is_choosing` whether the pictures may choose a form.
    """

    model: str
    form: str
    where: str
    kind: str
    subject: str
    to: str
    n_seeds: int
    is_choosing: bool


@dataclass(frozen=True)
class Outcome:
    """
    The outcome of a trial.

    `effect` is that of the localization which chose the layers, `moved` the largest |ΔW|/|W|,
    `base` the share of the pictures to forget that the base gets right. `kept_preserved` counts
    the kept concepts that some prompt of the preserve set speaks of, `kept_others` the rest.
    """

    trial: Trial
    layers: tuple[int, ...]
    effect: float | None
    ridge: float
    moved: float
    base: float
    forgotten: float | None
    became: float | None
    kept: float | None
    kept_preserved: float | None
    kept_others: float | None
    seconds: float

    @property
    def is_enough(self) -> bool:
        """True if forgotten, became and kept all reach their target."""
        return all((getattr(self, figure) or 0) >= ENOUGH for figure in FIGURES[:3])


def read_outcomes(paths: Iterable[Path]) -> list[Outcome]:
    """Return the outcomes that some files hold, none of a file that is not there."""
    lines = [line for path in paths if path.exists() for line in path.read_text().splitlines()]
    return [
        Outcome(**{**found, "trial": Trial(**found["trial"]), "layers": tuple(found["layers"])})
        for found in map(json.loads, lines)
    ]


def append_outcome(path: Path, outcome: Outcome) -> None:
    """Add a line to a file, which other processes may be adding to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(asdict(outcome)) + "\n")


def kept_shares(
    judged: EvaluationRun, preserved_prompts: Sequence[str]
) -> tuple[float | None, float | None]:
    """
    Return the kept shares of the concepts inside and outside the preserve set.

    Paired and averaged like `kept`: over the images that the base gets right, per concept first.
    """
    concept_of = {row.prompt: row.concept for row in judged.evaluation.keep}
    kept: dict[str, list[bool]] = {}
    for picture in judged.pictures:
        if picture.group == "keep" and picture.recognised_before:
            kept.setdefault(concept_of[picture.prompt], []).append(bool(picture.recognised_after))
    # whole words, as in "a boat, monet style"
    spoken_of = " ".join(f" {prompt} " for prompt in preserved_prompts).replace(",", " ")
    inside = {concept for concept in kept if f" {bare_name(concept)} " in spoken_of}
    return _kept(kept, inside), _kept(kept, kept.keys() - inside)


def base_share(pictures: Sequence[BeforeAfter]) -> float:
    """Return the share of the pictures to forget that the base gets right."""
    asked = [picture for picture in pictures if picture.group == "forget"]
    return fmean(bool(picture.recognised_before) for picture in asked)


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return a table with a row for each model, form and kind: means, and how many are enough."""
    head = ("model", "form", "layers", "kind", *FIGURES, "harmonic mean", "enough", "moved")
    rows = []
    for names, group in _groups(outcomes, "model", "form", "where", "kind"):
        means = [_mean(getattr(one, figure) for one in group) for figure in FIGURES]
        n_enough = sum(one.is_enough for one in group)
        shares = map(_share, (*means, _harmonic_mean(means[:3])))
        moved = _share(fmean(one.moved for one in group))
        rows.append((*names, *shares, f"{n_enough} of {len(group)}", moved))
    return _table(head, rows)


def listing(outcomes: Sequence[Outcome]) -> str:
    """Return a table for each model and form with a row for each concept."""
    head = ("kind", "concept", "to", "layers", "effect", "base", *FIGURES, "ridge", "moved")
    parts = []
    for (model, form, where), group in _groups(outcomes, "model", "form", "where"):
        rows = [
            (
                *(one.trial.kind, one.trial.subject, one.trial.to),
                ", ".join(map(str, one.layers)),
                *map(_share, (one.effect, one.base, *(getattr(one, f) for f in FIGURES))),
                f"{one.ridge:.3g}",
                _share(one.moved),
            )
            for one in group
        ]
        parts.append(f"**{model}, {form}, layers {where}**\n\n{_table(head, rows)}")
    return "\n\n".join(parts)


def beside(outcomes: Sequence[Outcome]) -> str:
    """
    Return a table with a row for each concept and a column for each choice of its layers.

    A cell holds the layers, their effect, and what was forgotten, became and kept.
    """
    places = sorted({one.trial.where for one in outcomes})
    rows = []
    for (kind, subject), group in _groups(outcomes, "kind", "subject"):
        found = {one.trial.where: _cell(one) for one in group}
        rows.append((kind, subject, *(found.get(where, "–") for where in places)))
    return _table(("kind", "concept", *places), rows)


def _cell(one: Outcome) -> str:
    figures = " / ".join(_share(getattr(one, figure)) for figure in FIGURES[:3])
    return f"{', '.join(map(str, one.layers))} ({_share(one.effect)}): {figures}"


def _kept(kept: Mapping[str, Sequence[bool]], concepts: Set[str]) -> float | None:
    return fmean(fmean(kept[concept]) for concept in concepts) if concepts else None


def _groups(
    outcomes: Sequence[Outcome], *fields: str
) -> list[tuple[tuple[str, ...], list[Outcome]]]:
    """Return the outcomes whose trials agree in some fields, styles before objects and facts."""
    groups: dict[tuple[str, ...], list[Outcome]] = {}
    for one in sorted(outcomes, key=lambda one: KINDS.index(one.trial.kind)):
        key = tuple(getattr(one.trial, field) for field in fields)
        groups.setdefault(key, []).append(one)
    return sorted(groups.items(), key=lambda item: item[0][:3])


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
