"""
Count the states in which faults of the machine leave files.

    python -m tests.robustness.faults [--kills 200] [--others 40] [--only kills,cut] [--seed 0]
                                      [--output JSON]

Each of seven commands is killed `--kills` times; every other fault happens `--others` times. The
exit code is 1 if a law was broken.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

import torch

# imported before the forks, since each fork would need seconds for the import
import loco_cli.commands.edit
import loco_cli.commands.undo
import loco_cli.editing.locoedit  # noqa: F401 the forks must not read files of the package
from tests.robustness.faults import disks
from tests.robustness.faults.rounds import FAULTS, Rounds, Tally
from tests.robustness.faults.scenes import SCENES, Bases

_ALL = {fault.__name__: fault for fault in (*FAULTS, disks.full, disks.forbidden)}


def measure(
    n_kills: int, n_others: int, only: list[str], scenes: list[int], seed: int
) -> list[Tally]:
    """Return the tallies of the faults; print each as soon as it is known."""
    torch.set_num_threads(1)  # a thread does not outlive a fork
    tallies = []
    with tempfile.TemporaryDirectory(prefix="loco-faults-") as home:
        Path(home).chmod(0o755)  # one of the faults runs as another user
        rounds = Rounds(
            Bases(Path(home).resolve()), random.Random(seed), tuple(SCENES[i] for i in scenes)
        )
        for name in only:
            for tally in _ALL[name](rounds, n_kills if name == "kills" else n_others):
                _print(tally)
                tallies.append(tally)
    return tallies


def _print(tally: Tally) -> None:
    ends = ", ".join(f"{n} × {end}" for end, n in tally.ends.most_common())
    result = f"skipped: {tally.skipped}" if tally.skipped else f"{tally.n} times: {ends}"
    print(f"{tally.fault}: {result}", flush=True)
    for breach in dict.fromkeys(tally.breaches):
        print(f"  BREACH ({tally.breaches.count(breach)} ×) {breach}", flush=True)


def main() -> None:
    """Run the faults that the command line selects."""
    parser = argparse.ArgumentParser(description="Count the states in which faults leave files.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--others", type=int, default=40)
    parser.add_argument("--only", default=",".join(_ALL), help="names of faults")
    parser.add_argument("--scenes", type=int, nargs="*", help="numbers of commands, from 0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    begun = time.monotonic()
    scenes = options.scenes or list(range(len(SCENES)))
    only = options.only.split(",")
    tallies = measure(options.kills, options.others, only, scenes, options.seed)
    n, n_breaches = sum(t.n for t in tallies), sum(len(t.breaches) for t in tallies)
    minutes = (time.monotonic() - begun) / 60
    print(f"{n} faults in {minutes:.1f} minutes, {n_breaches} breaches")
    if options.output:
        options.output.write_text(json.dumps([vars(t) for t in tallies], indent=1))
    sys.exit(n_breaches > 0)


if __name__ == "__main__":
    main()
