"""
The cost of localizing a concept: the paper's loop, the exhaustive sweep and the fast search.

    python -m tests.benchmarks.search --output search.jsonl [--model tiny] [--seeds 4]
        [--localizations DIR] [--width 2] [--timed 2] [--whole-reference] [--shard 0/2 --threads 1]
    python -m tests.benchmarks.search --table search.jsonl

The loop (`tests.benchmarks.reference`) takes every window of width 2, at batch 1. Its evaluations
are counted exactly; its seconds are those of `--timed` pictures of each concept, times how many
there are, unless `--whole-reference` runs them all. Exhaustive results are read from DIR, the
--output of `answer_key`, where it has them; of fewer seeds they are counted for `--seeds`, and
their seconds are those of a sweep of one concept at one seed, times the evaluations. The fast
search is run. Seconds are those of the processor, which other programs' work does not change.

What `--output` holds already is not measured again.
"""

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import torch

from loco_cli.localization import Localization
from loco_cli.localizing.runs import RunRecorder, SearchContext
from loco_cli.models.locate import locate
from loco_cli.models.session import RunOptions, load_model, load_scorer
from loco_cli.recipe.record import EditEntry, LocalizeSettings
from loco_cli.sampling.sample import choose_batch_size
from tests.benchmarks import reference
from tests.benchmarks.answer_key import key_of, known_localization, parse_width
from tests.benchmarks.world import KINDS, add_options, chosen_entries, entries
from tests.searches import localize

WAYS = ("the paper's loop", "exhaustive", "fast")
LOOP_WIDTH = 2


@dataclass(frozen=True)
class Sought:
    """
    One concept, looked for in one way.

    `layers` is None where the loop was only timed; `n_run` are the evaluations that were made.
    """

    model: str
    way: str
    kind: str
    subject: str
    n_seeds: int
    evaluations: int
    n_run: int
    seconds: float
    layers: tuple[int, ...] | None
    effect: float | None = None

    @property
    def is_right(self) -> bool | None:
        """True if the overlap with the answer key is at least half of their union."""
        key = key_of(self.model).get(self.kind)
        if key is None or self.layers is None:
            return None
        mine, theirs = set(self.layers), set(range(*key))
        return len(mine & theirs) / len(mine | theirs) >= 0.5


@dataclass(frozen=True)
class Clock:
    """Seconds of this process's work since `start`."""

    start: float

    @classmethod
    def now(cls) -> "Clock":
        return cls(time.process_time())

    @property
    def seconds(self) -> float:
        return time.process_time() - self.start


def by_the_loop(
    bench: SearchContext, entry: EditEntry, n_seeds: int, *, n_timed: int, is_whole: bool
) -> Sought:
    """Return the paper's loop, all of it or as it is counted from some of its pictures."""
    spec, pairs = bench.located.spec, entry.localize_pairs
    windows = reference.windows_of(spec.n_layers, LOOP_WIDTH)
    price = RunRecorder.of(bench, entry, LocalizeSettings(seeds=n_seeds)).n_evaluations_per_picture
    n_pictures = len(windows) * len(pairs) * n_seeds
    some = windows if is_whole else windows[:: -(-len(windows) // n_timed)]
    some_pairs, seeds = (pairs, range(n_seeds)) if is_whole else (pairs[:1], range(1))
    clock = Clock.now()
    scores = reference.sweep(
        bench.pipeline, bench.scorer, entry, windows=some, pairs=some_pairs, seeds=seeds
    )
    n_run = len(some) * len(some_pairs) * len(seeds)
    return Sought(
        model=bench.located.name,
        way=WAYS[0],
        kind=entry.kind,
        subject=entry.subject,
        n_seeds=n_seeds,
        evaluations=n_pictures * price,
        n_run=n_run * price,
        seconds=round(clock.seconds * n_pictures / n_run, 1),
        layers=reference.chosen(scores, entry.kind) if is_whole else None,
    )


def by_search(bench: SearchContext, entry: EditEntry, settings: LocalizeSettings) -> Sought:
    """Return one of our searches, run."""
    clock, n_seeds = Clock.now(), settings.seeds
    found = localize(bench, entry, settings).localization
    return sought(bench.located.name, entry, found, n_seeds, clock.seconds)


def sought(
    model: str, entry: EditEntry, found: Localization, n_seeds: int, seconds: float
) -> Sought:
    """Return a localization as a row, for other seeds as many times its evaluations."""
    counted = found.unet_evaluations * n_seeds // len(found.seeds)
    return Sought(
        model=model,
        way=found.search,
        kind=entry.kind,
        subject=entry.subject,
        n_seeds=n_seeds,
        evaluations=counted,
        n_run=found.unet_evaluations,
        seconds=round(seconds * counted / found.unet_evaluations, 1),
        layers=found.layer_set,
        effect=found.effect,
    )


def seconds_per_evaluation(bench: SearchContext) -> float:
    """Return the time per evaluation of our sweep over all single layers with one seed."""
    (entry, *_) = entries(["object"])
    clock = Clock.now()
    settings = LocalizeSettings(seeds=1, width=1, search="exhaustive")
    found = localize(bench, entry, settings).localization
    return clock.seconds / found.unet_evaluations


def main(arguments: list[str] | None = None) -> None:
    """Measure what is not measured yet, or print the table of what is."""
    args = parser().parse_args(arguments)
    if args.table:
        print(table(read_rows(args.table)))
        return
    if args.threads:
        torch.set_num_threads(args.threads)
    located, machine = locate(args.model), RunOptions(device=args.device, is_cached=False)
    pipeline = load_model(located, machine)
    size = choose_batch_size("auto", pipeline)
    bench = SearchContext(located, pipeline, load_scorer(located, machine), size)
    done = {(row.way, row.subject, row.n_seeds) for row in read_rows([args.output])}
    price = None
    for entry in chosen_entries(args):
        known = known_localization(args.localizations, located.name, entry)
        for way in args.way or WAYS:
            if (way, entry.subject, args.seeds) in done:
                continue
            if way == WAYS[0]:
                whole, n = args.whole_reference, args.timed
                row = by_the_loop(bench, entry, args.seeds, n_timed=n, is_whole=whole)
            elif way == "exhaustive" and known:
                price = price or seconds_per_evaluation(bench)
                seconds = price * known.unet_evaluations
                row = sought(located.name, entry, known, args.seeds, seconds)
            else:
                how = LocalizeSettings(seeds=args.seeds, search=way, width=args.width)
                row = by_search(bench, entry, how)
            append_row(args.output, row)
            print(line(row), flush=True)


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(made)
    made.add_argument("--way", action="append", choices=WAYS)
    made.add_argument("--seeds", type=int, default=4)
    made.add_argument("--width", type=parse_width, default="auto", help="of ours: auto, or layers")
    made.add_argument("--device", default="cpu")
    made.add_argument("--localizations", type=Path, help="the --output of answer_key")
    made.add_argument("--timed", type=int, default=2, help="pictures of the loop for each concept")
    made.add_argument("--whole-reference", action="store_true", help="run all of the loop")
    made.add_argument("--output", type=Path, help="a file of JSON lines to add to")
    made.add_argument("--table", type=Path, nargs="+", help="print what these files hold")
    return made


def append_row(path: Path, row: Sought) -> None:
    """Add a line to a file, which other processes may be adding to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(asdict(row)) + "\n")


def read_rows(paths: Iterable[Path]) -> list[Sought]:
    """Return the rows that some files hold, none of a file that is not there."""
    lines = [line for path in paths if path.exists() for line in path.read_text().splitlines()]
    return [_row(json.loads(line)) for line in lines]


def line(row: Sought) -> str:
    """Return the printed line of one search."""
    return "  ".join((f"{row.way:<17}", f"{row.kind:<7}", f"{row.subject:<36}", *_cells(row)))


def table(rows: Sequence[Sought]) -> str:
    """Return a table with a row for each concept and way, and one of means for each way."""
    head = ("concept", "kind", "way", "UNet evaluations", "seconds", "window", "right")
    lines = []
    for entry in entries(KINDS):
        for way in WAYS:
            for row in rows:
                if (row.subject, row.kind, row.way) == (entry.subject, entry.kind, way):
                    lines.append((row.subject, row.kind, way, *_cells(row)))
    lines += [_mean(way, [row for row in rows if row.way == way]) for way in WAYS]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines))


def _mean(way: str, rows: Sequence[Sought]) -> tuple[str, ...]:
    judged = [row.is_right for row in rows if row.is_right is not None]
    if not rows:
        return (f"mean of 0, {way}", *["–"] * 6)
    return (
        f"mean of {len(rows)}",
        "all",
        way,
        f"{fmean(row.evaluations for row in rows):.0f}",
        f"{fmean(row.seconds for row in rows):.1f}",
        "",
        f"{sum(judged)} of {len(judged)}" if judged else "–",
    )


def _cells(row: Sought) -> tuple[str, ...]:
    where = "not run" if row.layers is None else ", ".join(map(str, row.layers))
    right = {None: "–", True: "right", False: "wrong"}[row.is_right]
    return f"{row.evaluations}", f"{row.seconds:.1f}", where, right


def _row(found: dict) -> Sought:
    layers = found["layers"]
    return Sought(**{**found, "layers": None if layers is None else tuple(layers)})


if __name__ == "__main__":
    main()
