"""
A command in a process of its own, forked when all is imported, to which something happens.

Faults come at a random time, or at a step: what Python tells of files (it audits every open, mkdir,
rename and removal) is counted as long as it is in the working folder. No function is replaced.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}
_HANGS_AFTER = 300.0  # seconds; a busy machine is no fault

Fault = Callable[[], None]


@dataclass(frozen=True)
class End:
    """How a command ended: `End(code=0, said="wrote out", seconds=0.4, steps=120)`."""

    code: int | None  # None: killed
    said: str
    seconds: float
    steps: int


@dataclass(frozen=True)
class When:
    """When a fault comes: `When(seconds=0.2)`, `When(step=17)`; never, if nothing is said."""

    seconds: float | None = None
    step: int | None = None


def die() -> None:
    """Kill this process, as the system does: nothing runs after it."""
    os.kill(os.getpid(), signal.SIGKILL)


def run(folder: Path, arguments: tuple[str, ...], when: When = When(), fault: Fault = die) -> End:
    """Return how `loco ARGUMENTS` in a folder ended, with the fault that came meanwhile."""
    return wait(start(folder, arguments, when, fault))


def start(
    folder: Path, arguments: tuple[str, ...], when: When = When(), fault: Fault = die
) -> "Child":
    """Return a command that has begun."""
    heard, told = os.pipe()
    begun = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(heard)
        _be(folder, arguments, when, fault, told)
    os.close(told)
    return Child(pid, heard, begun)


@dataclass(frozen=True)
class Child:
    """A command that runs: its process, what it says, and since when."""

    pid: int
    heard: int
    begun: float


def wait(child: Child) -> End:
    """Return how a command ended; one that hangs is killed and told as an error."""
    alarm = threading.Timer(_HANGS_AFTER, os.kill, (child.pid, signal.SIGABRT))
    alarm.start()
    with os.fdopen(child.heard, encoding="utf-8", errors="backslashreplace") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child.pid, 0)
    alarm.cancel()
    seconds = time.monotonic() - child.begun
    said, _, steps = said.partition("\nSTEPS ")  # killed at the very end, it says no number
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGABRT:
        raise TimeoutError(f"hangs: {said}")
    return End(None if code == -signal.SIGKILL else code, said, seconds, int(steps or 0))


def _be(folder: Path, arguments: tuple[str, ...], when: When, fault: Fault, told: int) -> None:
    """Become the command; never return."""
    os.dup2(told, 1)
    os.dup2(told, 2)
    os.chdir(folder)
    steps = _Steps(folder, when.step, fault)
    if when.seconds is not None:
        timer = threading.Timer(when.seconds, fault)
        timer.daemon = True
        timer.start()
    sys.addaudithook(steps)
    sys.argv = ["loco", *arguments]
    code: Any = 70
    try:
        from loco_cli.cli.app import main

        main()
    except SystemExit as error:
        code = error.code or 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(told, f"\nSTEPS {steps.n}".encode())
        os._exit(code)


class _Steps:
    """Counts what is done to files of a folder, and lets a fault come at one of them."""

    def __init__(self, folder: Path, step: int | None, fault: Fault) -> None:
        self.n = 0
        self._folder, self._step, self._fault = str(folder), step, fault
        self._is_inside = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS or self._is_inside:
            return
        path = os.fspath(arguments[0]) if isinstance(arguments[0], str | os.PathLike) else None
        if not isinstance(path, str) or (path.startswith("/") and self._folder not in path):
            return
        self.n += 1
        if self.n == self._step:
            self._is_inside = True
            self._fault()
            self._is_inside = False
