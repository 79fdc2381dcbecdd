"""
Give every reader hostile inputs, guided by the lines that they reach.

    python -m tests.robustness.fuzz [--inputs 100000] [--only recipe,undo] [--seed 0]
                                    [--findings DIR]

All readers get equally many inputs. The process may use `--megabytes` more memory than it has at
the start. The exit code is 1 if a reader raised anything but its own errors, wrote a file, needed
more than a second, or ran out of memory. `--findings` then holds the inputs.
"""

import argparse
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from tests.robustness.fuzz.guided import Findings, Watch, fuzz
from tests.robustness.fuzz.targets import targets


def measure(n_inputs: int, only: list[str], seed: int) -> list[Findings]:
    """Return the findings of each target; print them as soon as they are known."""
    watch, findings = Watch(), []
    with tempfile.TemporaryDirectory(prefix="loco-fuzz-") as home:
        known = targets(Path(home)).values()
        chosen = [target for target in known if not only or target.name in only]
        for target in chosen:
            finding = fuzz(target, -(-n_inputs // len(chosen)), random.Random(seed), watch)
            _print(finding)
            findings.append(finding)
    return findings


def _print(findings: Findings) -> None:
    print(
        f"{findings.target}: {findings.n} inputs in {findings.seconds:.0f} s, "
        f"{findings.n_lines} lines, {findings.n_corpus} kept, "
        f"slowest {findings.slowest:.3f} s, {len(findings.failures)} findings",
        flush=True,
    )
    for failure, content in findings.failures.items():
        print(f"  {failure}\n    {content[:200]!r}", flush=True)


def _limit_memory(megabytes: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def main() -> None:
    """Run the targets that the command line selects."""
    parser = argparse.ArgumentParser(description="Give every reader hostile inputs.")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--only", default="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--findings", type=Path)
    options = parser.parse_args()
    if sys.platform == "linux":
        _limit_memory(options.megabytes)
    begun = time.monotonic()
    only = [name for name in options.only.split(",") if name]
    findings = measure(options.inputs, only, options.seed)
    n_inputs = sum(finding.n for finding in findings)
    n_failures = sum(len(finding.failures) for finding in findings)
    minutes = (time.monotonic() - begun) / 60
    print(f"{n_inputs} inputs in {minutes:.1f} minutes, {n_failures} findings")
    for finding in findings if options.findings else ():
        for i, content in enumerate(finding.failures.values()):
            options.findings.mkdir(parents=True, exist_ok=True)
            name = f"{finding.target}-{i}".replace(" ", "-")
            (options.findings / name).write_bytes(content)
    sys.exit(n_failures > 0)


if __name__ == "__main__":
    main()
