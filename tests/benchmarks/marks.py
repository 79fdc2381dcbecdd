"""The figures of many edits, picture by picture, and their tables."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean

from loco_cli.evaluating.judge import EvaluationPlan, EvaluationRun
from loco_cli.evaluating.questions import Question
from loco_cli.evaluation import BeforeAfter, _harmonic_mean, _interval
from tests.benchmarks.world import KINDS

Groups = tuple[tuple[bool, ...], ...]
SCALES = ("forgotten", "became", "kept")


@dataclass(frozen=True)
class Measured:
    """
    The outcome of one edit: the marks of each concept's pictures that the base draws correctly.

    `share_changed` is of the numbers of UNet and text encoders; `seconds` are those of the solve
    and of the new weights.
    """

    model: str
    method: str
    subjects: tuple[str, ...]
    kinds: tuple[str, ...]
    n_seeds: int
    layers: tuple[tuple[int, ...], ...]
    share_changed: float
    seconds: float
    forgotten: Groups
    became: Groups
    kept: Groups

    def line(self) -> str:
        """Return the printed line of one edit."""
        shares = "  ".join(f"{_share(getattr(self, scale)):.2f}" for scale in SCALES)
        return f"{self.model:<12}{self.method:<32}{', '.join(self.subjects)[:40]:<42}{shares}"


def marks_of(exam: EvaluationPlan, judged: EvaluationRun) -> dict[str, Groups]:
    """Return the verdicts on forgetting and on the target for each edit of an exam."""
    forgotten: dict[int | None, list[bool]] = {}
    became: dict[int | None, list[bool]] = {}
    for question, picture in _pictures(exam, judged):
        if picture.recognised_before:
            is_right = bool(picture.became)
            is_gone = is_right if question.kind == "fact" else not picture.recognised_after
            forgotten.setdefault(question.edit, []).append(is_gone)
            became.setdefault(question.edit, []).append(is_right)
    return {"forgotten": _groups(forgotten), "became": _groups(became)}


def kept_marks(exam: EvaluationPlan, judged: EvaluationRun) -> Groups:
    """Return the verdicts on each concept to keep of an exam."""
    kept: dict[str, list[bool]] = {}
    for question, picture in _pictures(exam, judged):
        if picture.recognised_before:
            kept.setdefault(question.concept, []).append(bool(picture.recognised_after))
    return _groups(kept)


def append_row(path: Path, row: Measured) -> None:
    """Add a line to a file, which other processes may be adding to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(asdict(row)) + "\n")


def read_rows(paths: Iterable[Path]) -> list[Measured]:
    """Return the rows that some files hold, none of a file that is not there."""
    lines = [line for path in paths if path.exists() for line in path.read_text().splitlines()]
    return [Measured(**{k: _frozen(v) for k, v in json.loads(line).items()}) for line in lines]


def table(rows: Sequence[Measured]) -> str:
    """Return a table: a row for each model, number of edits, method and kind, and over all."""
    head = ("model", "edits", "method", "kind", *SCALES, "harmonic mean", "changed", "seconds")
    lines = []
    for names, group in _by(rows, lambda row: (row.model, len(row.subjects), row.method)):
        single = len(group[0].subjects) == 1
        parts = [(kind, [row for row in group if row.kinds[0] == kind]) for kind in KINDS]
        for kind, own in (*(parts if single else ()), ("all", group)):
            if own:
                lines.append((*map(str, names), kind, *_figures(own)))
    ruled = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in ruled)


def _figures(rows: Sequence[Measured]) -> tuple[str, ...]:
    """Return the figures of some edits with their 95 % intervals, each edit counted alike."""
    shares, cells = [], []
    for scale in SCALES:
        groups = [group for row in rows for group in getattr(row, scale)]
        low, high = _interval(groups)
        shares.append(_share(groups))
        cells.append(f"{shares[-1]:.3f} ({low:.2f}–{high:.2f})")
    changed = fmean(row.share_changed for row in rows)
    seconds = fmean(row.seconds for row in rows)
    return *cells, f"{_harmonic_mean(shares):.3f}", f"{changed:.2%}", f"{seconds:.2f}"


def _share(groups: Sequence[Sequence[bool]]) -> float:
    return fmean(map(fmean, groups))


def _pictures(
    exam: EvaluationPlan, judged: EvaluationRun
) -> Iterator[tuple[Question, BeforeAfter]]:
    pictures = iter(judged.pictures)
    for question in exam.questions:
        for picture in islice(pictures, len(exam.seeds)):
            yield question, picture


def _groups(marks: dict) -> Groups:
    return tuple(map(tuple, marks.values()))


def _by(rows, key):
    found: dict = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found.items()


def _frozen(value):
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
