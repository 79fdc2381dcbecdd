"""A command in a child process, with its time and its peak memory."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Run:
    """
    The cost of a command: `Run(seconds=4.2, peak_bytes=900_000_000, output="...")`.

    `peak_bytes` is the child's VmHWM, mapped pages counted, as the kernel hands it over at its end.
    What the parent holds is a lower bound to it, since a child begins as a copy: keep that small.
    """

    seconds: float
    peak_bytes: int
    output: str = ""


def run(*command: str | Path, ok: Sequence[int] = (0,)) -> Run:
    """Run a command and return its time and memory; exit if it fails."""
    started = time.perf_counter()
    child = subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert child.stdout
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in ok:
        raise SystemExit(f"{' '.join(map(str, command))}: exit code {child.returncode}\n{output}")
    return Run(seconds, usage.ru_maxrss * _RSS_UNIT, output)


def python(module: str, *arguments: str | Path, ok: Sequence[int] = (0,)) -> Run:
    """Run a Python module as a program and return its time and memory."""
    return run(sys.executable, "-m", module, *arguments, ok=ok)


def warm(*paths: Path) -> None:
    """Have everything on disk that should be, and files in memory as far as they fit."""
    os.sync()
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.read(16 << 20):
                pass
