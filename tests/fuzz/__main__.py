"""
Every reader under hostile inputs, guided by which lines they reach.

    python -m tests.fuzz [--inputs 100000] [--only recipe,undo] [--seed 0] [--findings DIR]

Inputs are shared out evenly. The process may not take more memory than `--megabytes` beyond what
it has when it begins. The exit code is 1 if a reader failed by anything but its own error, wrote
something, took a second, or ran out of memory; the inputs are then in `--findings`.
"""

import argparse
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.guided import Findings, Watch, fuzz
from tests.fuzz.targets import targets


def measure(n: int, only: list[str], seed: int) -> list[Findings]:
    """Return what came of every target; each is printed as soon as it is known."""
    watch, found = Watch(), []
    with tempfile.TemporaryDirectory(prefix="loco-fuzz-") as home:
        chosen = [one for one in targets(Path(home)).values() if not only or one.name in only]
        for target in chosen:
            one = fuzz(target, -(-n // len(chosen)), random.Random(seed), watch)
            _tell(one)
            found.append(one)
    return found


def _tell(one: Findings) -> None:
    print(
        f"{one.target}: {one.n} inputs in {one.seconds:.0f} s, {one.n_lines} lines, "
        f"{one.n_corpus} kept, slowest {one.slowest:.3f} s, {len(one.wrong)} findings",
        flush=True,
    )
    for wrong, content in one.wrong.items():
        print(f"  {wrong}\n    {content[:200]!r}", flush=True)


def _limit(megabytes: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description="Give every reader hostile inputs.")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--only", default="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--findings", type=Path)
    asked = parser.parse_args()
    if sys.platform == "linux":
        _limit(asked.megabytes)
    begun = time.monotonic()
    found = measure(asked.inputs, [word for word in asked.only.split(",") if word], asked.seed)
    n_wrong = sum(len(one.wrong) for one in found)
    minutes = (time.monotonic() - begun) / 60
    print(f"{sum(one.n for one in found)} inputs in {minutes:.1f} minutes, {n_wrong} findings")
    for one in found if asked.findings else ():
        for i, content in enumerate(one.wrong.values()):
            asked.findings.mkdir(parents=True, exist_ok=True)
            (asked.findings / f"{one.target}-{i}".replace(" ", "-")).write_bytes(content)
    sys.exit(n_wrong > 0)


if __name__ == "__main__":
    main()
