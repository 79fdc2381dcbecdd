"""The medians of timed runs, their references and their targets."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from tests.benchmarks.children import Run

_MIB = 1 << 20


@dataclass(frozen=True)
class Figure:
    """
    One line: `Figure("edit", (9.1, 8.8), 1.2e9, "time / copy", 0.9, most=1.0)`.

    `value` is compared with `most` or `least`, if either is given; `of` says what it is.
    """

    name: str
    seconds: tuple[float, ...]
    peak_bytes: int | None = None
    of: str = ""
    value: float | None = None
    most: float | None = None
    least: float | None = None

    @property
    def is_met(self) -> bool | None:
        """True if the value is within its bound, None without a bound."""
        if self.value is None or (self.most is None and self.least is None):
            return None
        return (self.most is None or self.value <= self.most) and (
            self.least is None or self.value >= self.least
        )

    def to_json(self) -> dict[str, Any]:
        """Return the figure with the median of its seconds."""
        return {**asdict(self), "median_seconds": median(self.seconds), "is_met": self.is_met}


def figures(runs: Mapping[str, list[Run]]) -> list[Figure]:
    """Return the lines of a model's table, those with a target first."""
    seconds = {name: tuple(run.seconds for run in found) for name, found in runs.items()}
    peak = {name: max(run.peak_bytes for run in found) for name, found in runs.items()}
    copies = zip(*(seconds[step] for step in ("cp", "sync", "openssl")), strict=True)
    seconds["copy"] = tuple(sum(steps) for steps in copies)
    took = {name: median(found) for name, found in seconds.items()}

    def line(name: str, of: str = "", value: float | None = None, **bounds: float) -> Figure:
        return Figure(name, seconds[name], peak.get(name), of, value, **bounds)

    def against(name: str, other: str, **bounds: float) -> Figure:
        return line(name, f"time / {other}", took[name] / took[other], **bounds)

    n_times = took["usual way"] / took["edit"]
    return [
        line("copy", "cp + sync -f + openssl dgst -sha256"),
        *map(line, ("cp", "sync", "openssl")),
        against("edit", "copy", most=1.0),
        line("edit", "peak MiB", peak["edit"] / _MIB, most=1536),
        line("usual way", "time / edit", n_times, least=10.0),
        line("edit", "peak / usual way", peak["edit"] / peak["usual way"], most=0.2),
        line("cmp"),
        against("diff", "cmp", most=1.3),
        *(against(f"edit, {form}", "copy") for form in ("defaults", "all layers")),
        *(against(f"diff, {form}", "cmp") for form in ("defaults", "all layers")),
    ]


def solve_figures(found: Mapping[str, Any]) -> Iterable[Figure]:
    """Yield a line for each number of concepts: all factors, all weights, one published solve."""
    for size in found["sizes"]:
        n = size["concepts"]
        who = f"{n} concept{'s' if n > 1 else ''}, {size['keys']} keys"
        all_tensors = f"all {found['tensors']} tensors"
        seconds = {what: tuple(taken) for what, taken in size["seconds"].items()}
        yield Figure(f"solve, {who}", seconds["factors"], of=f"{all_tensors}, as factors")
        yield Figure(f"solve, {who}", seconds["weights"], of=f"{all_tensors}, from factors")
        yield Figure(f"solve, {who}", seconds["published"], of="one tensor, d x d as published")


def table(lines: Iterable[Figure]) -> str:
    """Return the lines as text."""
    head = f"{'what':<28}{'median s':>9}{'from':>9}{'to':>9}{'peak MiB':>10}  "
    return "\n".join((head.rstrip(), *map(_row, lines)))


def _row(line: Figure) -> str:
    peak = f"{line.peak_bytes / _MIB:.0f}" if line.peak_bytes else ""
    taken = "".join(
        f"{s:9.3f}" for s in (median(line.seconds), min(line.seconds), max(line.seconds))
    )
    return f"{line.name:<28}{taken}{peak:>10}  {_words(line)}".rstrip()


def _words(line: Figure) -> str:
    if line.value is None:
        return line.of
    text = f"{line.of} {line.value:.4g}"
    if line.is_met is None:
        return text
    bound = f"at most {line.most:g}" if line.most is not None else f"at least {line.least:g}"
    return f"{text}, {'met' if line.is_met else 'MISSED'}: {bound}"
