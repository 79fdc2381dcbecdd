"""
What becomes of files when the machine fails, counted.

    python -m tests.faults [--kills 200] [--others 40] [--only kills,cut] [--seed 0] [--output JSON]

`--kills` are for each of seven commands, `--others` for each of the other faults. The exit code is
1 if a law did not hold even once.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

import torch

# imported before the forks, or every one of them would take the seconds again
import loco_cli.commands.edit
import loco_cli.commands.undo
import loco_cli.editing.locoedit  # noqa: F401 for the forks, which may read no file of the package
from tests.faults import disks
from tests.faults.rounds import FAULTS, Rounds, Tally
from tests.faults.scenes import SCENES, Bases

_ALL = {fault.__name__: fault for fault in (*FAULTS, disks.full, disks.forbidden)}


def measure(
    n_kills: int, n_others: int, only: list[str], scenes: list[int], seed: int
) -> list[Tally]:
    """Return the tally of every fault; each is printed as soon as it is known."""
    torch.set_num_threads(1)  # a thread does not outlive a fork
    tallies = []
    with tempfile.TemporaryDirectory(prefix="loco-faults-") as home:
        Path(home).chmod(0o755)  # one of the faults is to be a user without rights
        rounds = Rounds(
            Bases(Path(home).resolve()), random.Random(seed), tuple(SCENES[i] for i in scenes)
        )
        for name in only:
            for tally in _ALL[name](rounds, n_kills if name == "kills" else n_others):
                _tell(tally)
                tallies.append(tally)
    return tallies


def _tell(tally: Tally) -> None:
    ends = ", ".join(f"{n} × {end}" for end, n in tally.ends.most_common())
    said = f"skipped: {tally.skipped}" if tally.skipped else f"{tally.n} times: {ends}"
    print(f"{tally.fault}: {said}", flush=True)
    for breach in dict.fromkeys(tally.breaches):
        print(f"  BREACH ({tally.breaches.count(breach)} ×) {breach}", flush=True)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description="Count what becomes of files when machines fail.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--others", type=int, default=40)
    parser.add_argument("--only", default=",".join(_ALL), help="which faults")
    parser.add_argument("--scenes", type=int, nargs="*", help="which commands, counted from 0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    begun = time.monotonic()
    scenes = asked.scenes or list(range(len(SCENES)))
    only = asked.only.split(",")
    tallies = measure(asked.kills, asked.others, only, scenes, asked.seed)
    n, n_breaches = sum(t.n for t in tallies), sum(len(t.breaches) for t in tallies)
    minutes = (time.monotonic() - begun) / 60
    print(f"{n} faults in {minutes:.1f} minutes, {n_breaches} breaches")
    if asked.output:
        asked.output.write_text(json.dumps([vars(t) for t in tallies], indent=1))
    sys.exit(n_breaches > 0)


if __name__ == "__main__":
    main()
