"""
The start of `loco`, relative to the imports that every command needs.

`python -m tests.benchmarks.startup` runs the three commands in turn and prints the median processor
time of each, and its ratio to the imports.
"""

import os
import statistics
import subprocess
import sys

N_ROUNDS = 31
IMPORTS = "import typer, rich.console, pydantic, yaml"
COMMANDS = {
    "imports": ("-c", IMPORTS),
    "loco --help": ("-m", "loco_cli", "--help"),
    "loco recipes list": ("-m", "loco_cli", "recipes", "list"),
}


def processor_seconds(arguments: tuple[str, ...]) -> float:
    """Run Python once, and return the user and system time of the process."""
    before = os.times()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])


def main() -> None:
    """Measure the commands in turn, so that all of them see the same machine."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(N_ROUNDS):
        for name, arguments in COMMANDS.items():
            seconds[name].append(processor_seconds(arguments))
    base = statistics.median(seconds["imports"])
    for name, measured in seconds.items():
        median = statistics.median(measured)
        print(f"{name:<20}{median:>8.3f} s{median / base:>8.2f}")


if __name__ == "__main__":
    main()
