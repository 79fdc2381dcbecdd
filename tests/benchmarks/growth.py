"""
The cost of a localization over the number of layers, in UNet evaluations.

    python -m tests.benchmarks.growth [--drawing FILE.svg]
        [--sdxl DIR --plant 64 66 --plant 20 22 --threads 1]

The search runs on scores that are made up: swapping planted layers makes a share of the full
swap's effect, and every score has an error. Its ranking is either true, with an error, or drawn by
lot, which is the worst case. With `--sdxl` an SDXL of true architecture and reduced width is made
in DIR, in which a range of 70 layers listens to the prompt and the others hardly do, and is
searched for real: attribution, pictures, scores by how alike to the prompt's own they are.
"""

import argparse
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from loco_cli.events import SILENT_EVENTS
from loco_cli.families import registry
from loco_cli.interventions import Run
from loco_cli.localization import Localization
from loco_cli.localizing import fast
from loco_cli.localizing.cache import CachedRun
from loco_cli.localizing.runs import RunRecorder, SearchContext, SwapTrial, windows_of
from loco_cli.localizing.scoreboard import Estimate
from loco_cli.localizing.search import FastSearch
from loco_cli.models.locate import locate
from loco_cli.models.session import RunOptions, load_model
from loco_cli.recipe.record import EditEntry, LocalizeSettings
from loco_cli.sampling.processes import Team
from loco_cli.sampling.sample import choose_batch_size, sample
from tests.families.layouts import write_folder
from tests.families.small import SmallModel, small_model
from tests.searches import localize

N_LAYERS = (16, 32, 70)
STEPS, GUIDANCE = 50, 7.5
ENTRY = EditEntry(kind="style", subject="monet", to="painting")
PLANTS = {"one layer": (1.0,), "two layers": (0.55, 0.42), "three layers": (0.35, 0.35, 0.27)}
LISTENS = 0.01  # the layers of the reduced SDXL that are not planted, of what they did


@dataclass
class MadeUp(RunRecorder):
    """Runs without a model: scores fall by the effect of the layers that are swapped."""

    weights: Mapping[int, float] = field(default_factory=dict)
    noise: float = 0.05  # share of the full swap's effect

    @property
    def n_unet_calls(self) -> int:
        return STEPS

    def _draw_pictures(self, fresh: Sequence[Sequence[SwapTrial]], stage: str) -> None:
        for trial in (trial for sharing in fresh for trial in sharing):
            self._record(trial, CachedRun(self._score(trial)))

    def _score(self, trial: SwapTrial) -> float:
        layers, of = trial.layers, (trial.run.prompt, trial.run.seed)
        is_full = len(layers) == self.context.located.spec.n_layers
        effect = 1.0 if is_full else min(1.0, sum(self.weights.get(one, 0) for one in layers))
        own = random.Random(repr(of)).gauss(0, 0.1)
        error = random.Random(repr((layers, of))).gauss(0, self.noise) if layers else 0.0
        return 1.0 + own - effect - error


@dataclass(frozen=True)
class Count:
    """The evaluations of one search, those of the sweep that it stands for, and whether it hit."""

    fast: int
    exhaustive: int
    is_right: bool


def bench_of(n_layers: int) -> Any:
    """Return a search context without a model."""
    spec = SimpleNamespace(
        n_layers=n_layers, unreachable=(), sampling=lambda steps, guidance: (STEPS, GUIDANCE)
    )
    located = SimpleNamespace(spec=spec)
    return SimpleNamespace(located=located, events=SILENT_EVENTS, cache=None, team=Team())


def counted(
    n_layers: int, plant: tuple[int, ...], weights: Sequence[float], *, by_lot: bool
) -> Count:
    """Return the costs of searches for planted layers, with a correct or a random ranking."""
    found = dict(zip(plant, weights, strict=True))
    runs = MadeUp(
        bench_of(n_layers),
        ENTRY.concept,
        ENTRY.localize_pairs,
        LocalizeSettings(),
        weights=found,
    )
    rng = random.Random(repr((n_layers, plant)))
    shares = [rng.random() if by_lot else share for share in _true(found, n_layers, rng)]
    best = hunt(runs, shares)
    n_rows = 2 + sum(n_layers - width + 1 for width in range(1, len(plant) + 1))
    whole = n_rows * len(runs.pairs) * len(runs.seeds) * runs.n_evaluations_per_picture
    return Count(runs.n_unet_evaluations, whole, set(best.layers) <= set(plant))


def _true(weights: Mapping[int, float], n_layers: int, rng: random.Random) -> Iterator[float]:
    for layer in range(n_layers):
        yield max(0.0, rng.gauss(0.01, 0.02)) + 0.5 * weights.get(layer, 0.0)


def hunt(runs: MadeUp, shares: Sequence[float]) -> Estimate:
    """Return the best range of a search whose ranking of the layers is given."""
    runs.run_trials(runs.originals(), "", is_shared=False)
    runs.n_unet_evaluations += len(runs.pairs) * fast.N_UNET_CALLS_PER_STEP * fast.N_REPLAYED_STEPS
    return FastSearch(runs).find_best(shares)


def counts(n_layers: int, *, by_lot: bool, n_places: int = 12) -> list[Count]:
    """Return searches for every plant, in places spread over the layers."""
    return [
        counted(n_layers, tuple(range(begin, begin + len(weights))), weights, by_lot=by_lot)
        for weights in PLANTS.values()
        for begin in range(0, n_layers - len(weights) + 1, max(1, n_layers // n_places))
    ]


def table(found: Mapping[tuple[int, bool], Sequence[Count]]) -> str:
    """Return a table with a row for each number of layers and ranking."""
    head = ("layers", "ranking", "exhaustive", "fast", "most", "share", "found")
    rows = [
        (
            str(n_layers),
            "by lot" if by_lot else "true",
            f"{fmean(one.exhaustive for one in own):,.0f}",
            f"{fmean(one.fast for one in own):,.0f}",
            f"{max(one.fast for one in own):,}",
            f"1/{sum(o.exhaustive for o in own) / sum(o.fast for o in own):.0f}",
            f"{sum(one.is_right for one in own)} of {len(own)}",
        )
        for (n_layers, by_lot), own in found.items()
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def drawing(found: Mapping[tuple[int, bool], Sequence[Count]]) -> str:
    """Return the growth as SVG: evaluations, on a scale of powers of ten, over layers."""
    lines = {
        "exhaustive": [fmean(o.exhaustive for o in found[n, False]) for n in N_LAYERS],
        "fast, the ranking drawn by lot": [fmean(o.fast for o in found[n, True]) for n in N_LAYERS],
        "fast, the ranking right": [fmean(o.fast for o in found[n, False]) for n in N_LAYERS],
    }
    ticks = (1_000, 10_000, 100_000)
    top = max(max(map(max, lines.values())), ticks[-1])

    def point(n_layers: int, value: float) -> tuple[float, float]:
        height = math.log(value / ticks[0]) / math.log(top / ticks[0])
        return 70 + 390 * n_layers / N_LAYERS[-1], 220 - 180 * height

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 660 270" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="660" height="270" fill="#fff"/>',
        '<text x="8" y="20" fill="#555">UNet evaluations of a localization</text>',
        '<text x="265" y="258" text-anchor="middle" fill="#555">cross-attention layers</text>',
    ]
    for value in ticks:
        _, y = point(0, value)
        parts.append(f'<path d="M70 {y:.0f}H460" stroke="#ddd"/>')
        parts.append(f'<text x="64" y="{y + 4:.0f}" text-anchor="end">{value:,}</text>')
    for n_layers in N_LAYERS:
        x, _ = point(n_layers, ticks[0])
        parts.append(f'<text x="{x:.0f}" y="238" text-anchor="middle">{n_layers}</text>')
    for (words, values), ink in zip(lines.items(), ("#b33", "#b70", "#27a"), strict=True):
        places = [point(n, value) for n, value in zip(N_LAYERS, values, strict=True)]
        path = " ".join(f"{x:.0f},{y:.0f}" for x, y in places)
        x, y = places[-1]
        parts.append(f'<polyline points="{path}" fill="none" stroke="{ink}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3" fill="{ink}"/>' for x, y in places]
        parts.append(f'<text x="{x + 8:.0f}" y="{y + 4:.0f}" fill="{ink}">{words}</text>')
    return "\n".join((*parts, "</svg>", ""))


class Likeness:
    """Scores: how alike a picture is to what its caption, as a prompt, makes of any seed."""

    name = "likeness"

    def __init__(self, known: Mapping[str, Sequence[Tensor]]) -> None:
        self.known = known

    def scores(self, images: Tensor, captions: Sequence[str]) -> list[float]:
        """Return 1 less the distance to the nearest, root mean square."""
        return [
            1 - min(float((image - own).square().mean().sqrt()) for own in self.known[caption])
            for image, caption in zip(images, captions, strict=True)
        ]


def planted(name: str, plant: range) -> SmallModel:
    """Return the small relative of a model, in which a range alone listens to the prompt."""
    model = small_model(name)
    unet = dict(model.tensors["unet"])
    paths = [key.removesuffix(".to_k.weight") for key in unet if key.endswith("attn2.to_k.weight")]
    kept = {registry.get(name).module_paths[layer] for layer in plant}
    for path in paths:
        if path not in kept:
            unet[f"{path}.to_out.0.weight"] = LISTENS * unet[f"{path}.to_out.0.weight"]
    return replace(model, tensors={**model.tensors, "unet": unet})


def searched(folder: Path, plant: range, *, steps: int | None, n_seeds: int) -> Localization:
    """Return a fast search of the reduced SDXL, whose folder is made once."""
    if not (folder / "model_index.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_folder(folder, planted("sdxl", plant), torch.float32)
    located = locate(str(folder))
    pipeline = load_model(located, RunOptions(device="cpu"))
    size, sampling = choose_batch_size("auto", pipeline), located.spec.sampling(steps, None)
    pairs, seeds = ENTRY.localize_pairs, range(n_seeds)
    runs = [Run(pair.source, seed) for pair in pairs for seed in seeds]
    made = list(sample(pipeline, runs, steps=sampling[0], guidance=sampling[1], batch_size=size))
    known: dict[str, list[Tensor]] = {}
    for run, image in zip(runs, made, strict=True):
        known.setdefault(run.prompt, []).append(image)
    scorer: Any = Likeness(known)
    bench = SearchContext(located, pipeline, scorer, size)
    return localize(bench, ENTRY, LocalizeSettings(steps=steps, seeds=n_seeds)).localization


def report(found: Localization, plant: range) -> str:
    """Return a search of the reduced SDXL in words, beside the sweeps that it stands for."""
    n_layers, width = len(found.ranking or ()), len(found.layers)
    n_pairs = len(found.prompts) * len(found.seeds)
    price = found.steps * (2 if found.guidance > 1 else 1)
    windows = [w for w in windows_of("auto", n_layers) if len(tuple(w)) <= width]
    whole = (len(windows) + 2) * n_pairs * price
    ranking = sorted(range(n_layers), key=lambda i: -(found.ranking or ())[i])
    return (
        f"SDXL of reduced width, {n_layers} layers, {list(plant)} planted: "
        f"layers {found.layer_set}, effect {found.effect:.2f}, {len(found.scores)} windows tried, "
        f"ranking begins {ranking[:4]}; {found.unet_evaluations:,} evaluations of the exhaustive "
        f"sweep's {whole:,}, 1/{whole / found.unet_evaluations:.0f}"
    )


def main(arguments: list[str] | None = None) -> None:
    """Print the counts, write the drawing, and search the reduced SDXL where it is asked for."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--drawing", type=Path)
    made.add_argument("--sdxl", type=Path, help="a folder for the reduced SDXL")
    made.add_argument("--plant", type=int, nargs=2, action="append", metavar=("A", "B"))
    made.add_argument("--steps", type=int, help="of the reduced SDXL, in place of its usual ones")
    made.add_argument("--seeds", type=int, default=4)
    made.add_argument("--threads", type=int)
    args = made.parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    found = {(n, by_lot): counts(n, by_lot=by_lot) for n in N_LAYERS for by_lot in (False, True)}
    print(table(found), flush=True)
    if args.drawing:
        args.drawing.write_text(drawing(found), "utf-8")
    for plant in (range(*ends) for ends in args.plant or [(64, 66)]):
        if args.sdxl:
            folder = args.sdxl / f"{plant.start}-{plant.stop}"
            got = searched(folder, plant, steps=args.steps, n_seeds=args.seeds)
            print(report(got, plant), flush=True)


if __name__ == "__main__":
    main()
