"""
Commands in forked processes, and the faults that interrupt them.

A fault happens after some seconds, or at a step. A step is one of Python's audit events (open,
mkdir, rename, removal) for a file in the working folder. No function is replaced.
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
_LIMIT_SECONDS = 300.0  # a command that takes longer hangs, even on a busy machine

Fault = Callable[[], None]


@dataclass(frozen=True)
class End:
    """The end of a command: `End(code=0, output="wrote out", seconds=0.4, steps=120)`."""

    code: int | None  # None if it was killed
    output: str
    seconds: float
    steps: int


@dataclass(frozen=True)
class Moment:
    """The moment of a fault: `Moment(seconds=0.2)`, `Moment(step=17)`; `Moment()` is never."""

    seconds: float | None = None
    step: int | None = None


def die() -> None:
    """Kill this process, as the system does; no code runs after that."""
    os.kill(os.getpid(), signal.SIGKILL)


def run(
    folder: Path, arguments: tuple[str, ...], moment: Moment = Moment(), fault: Fault = die
) -> End:
    """Run `loco ARGUMENTS` in a folder with a fault, and return its end."""
    return wait(start(folder, arguments, moment, fault))


def start(
    folder: Path, arguments: tuple[str, ...], moment: Moment = Moment(), fault: Fault = die
) -> "Child":
    """Start `loco ARGUMENTS` in a folder with a fault."""
    read_end, write_end = os.pipe()
    begun = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        _become(folder, arguments, moment, fault, write_end)
    os.close(write_end)
    return Child(pid, read_end, begun)


@dataclass(frozen=True)
class Child:
    """A running command: its process, the pipe with its output, and its start time."""

    pid: int
    pipe: int
    begun: float


def wait(child: Child) -> End:
    """Return the end of a command; kill one that hangs, and raise TimeoutError."""
    alarm = threading.Timer(_LIMIT_SECONDS, os.kill, (child.pid, signal.SIGABRT))
    alarm.start()
    with os.fdopen(child.pipe, encoding="utf-8", errors="backslashreplace") as pipe:
        output = pipe.read()
    _, status = os.waitpid(child.pid, 0)
    alarm.cancel()
    seconds = time.monotonic() - child.begun
    # a command that is killed at the very end writes no number
    output, _, steps = output.partition("\nSTEPS ")
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGABRT:
        raise TimeoutError(f"hangs: {output}")
    return End(None if code == -signal.SIGKILL else code, output, seconds, int(steps or 0))


def _become(
    folder: Path, arguments: tuple[str, ...], moment: Moment, fault: Fault, write_end: int
) -> None:
    """Become the command, and never return."""
    os.dup2(write_end, 1)
    os.dup2(write_end, 2)
    os.chdir(folder)
    steps = _Steps(folder, moment.step, fault)
    if moment.seconds is not None:
        timer = threading.Timer(moment.seconds, fault)
        timer.daemon = True
        timer.start()
    sys.addaudithook(steps)
    sys.argv = ["loco", *arguments]
    code: Any = 70  # for an error in the harness itself
    try:
        from loco_cli.cli.app import main

        main()
    except SystemExit as error:
        code = error.code or 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(write_end, f"\nSTEPS {steps.n}".encode())
        os._exit(code)


class _Steps:
    """Counts the operations on files of a folder, and causes a fault at one of them."""

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
