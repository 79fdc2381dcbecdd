"""
The time and memory of edit, diff and solve on full-size checkpoints, compared with a plain copy.

    python -m tests.benchmarks.checkpoints --work DIR [--model sdxl] [--repeat 3] [--output JSON]

It makes its own files, with random weights: SDXL has 6.9 GB, SD 1.5 2.1 GB. At most three of
that size are in DIR at once, and none at the end. Each command is a process of its
own, and they take turns; what is compared are medians. `--small` runs all of it at reduced widths.
"""

import argparse
import json
import os
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.benchmarks import children
from tests.benchmarks.figures import figures, solve_figures, table
from tests.benchmarks.rounds import Bench, RunRecorder, one_round

LAYERS = {"sdxl": (45, 49), "sd15": (8, 10)}  # as published, for styles


def measure(bench: Bench, repeat: int) -> RunRecorder:
    """Return every run by its name, each `repeat` times; the files are made first."""
    size = ("--small",) if bench.is_small else ()
    children.python("tests.benchmarks.full_size", bench.model, bench.base, bench.config, *size)
    runs: RunRecorder = {}
    for _ in range(repeat):
        for name, run in one_round(bench):
            runs.setdefault(name, []).append(run)
            print(f"{bench.model}: {name}: {run.seconds:.2f} s", flush=True)
    return runs


def solve(model: str, repeat: int, is_small: bool) -> dict[str, Any]:
    """Return the seconds of the solve alone."""
    size = ("--small", "--concepts", "1", "10") if is_small else ()
    run = children.python("tests.benchmarks.solving", model, "--repeat", str(repeat), *size)
    return json.loads(run.output)


def machine() -> dict[str, Any]:
    """Return the machine and the versions of the measurement."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    libraries = ("torch", "diffusers", "transformers", "safetensors", "numpy")
    return {
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "memory_bytes": pages,
        "python": platform.python_version(),
        **{library: version(library) for library in libraries},
    }


def main() -> None:
    """Run everything and print a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="a folder with room for 22 GB")
    parser.add_argument("--model", action="append", choices=tuple(LAYERS))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="reduced widths, in seconds")
    parser.add_argument("--output", type=Path, help="a file for all figures, as JSON")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {"machine": machine(), "small": args.small, "models": []}
    for model in args.model or LAYERS:
        folder = args.work / model
        bench = Bench(model, folder, LAYERS[model], args.small)
        folder.mkdir()
        try:
            runs = measure(bench, args.repeat)
            n_bytes = bench.base.stat().st_size
        finally:
            shutil.rmtree(folder)
        found = [*figures(runs), *solve_figures(solve(model, args.repeat, args.small))]
        print(f"\n{model}, {n_bytes / 1e9:.2f} GB\n{table(found)}\n", flush=True)
        document["models"].append(
            {"model": model, "bytes": n_bytes, "figures": [one.to_json() for one in found]}
        )
    if args.output:
        args.output.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
