"""Fuzzing by coverage: an input that reaches a new line is kept, and changed further."""

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import loco_cli
from tests.robustness.fuzz.mutate import mutate
from tests.robustness.fuzz.targets import Target

_PACKAGE = str(Path(loco_cli.__file__).parent)
_MAX_SECONDS = 1.0  # processor time; a valid file of 64 KiB takes some hundredths
_N_NEWEST = 20  # inputs from which every second change begins
_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_WRITE_EVENTS = {
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "os.chmod",
}


@dataclass
class Findings:
    """The result of one target: its counts, and the first input of each failure."""

    target: str
    n: int = 0
    n_lines: int = 0
    n_corpus: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    failures: dict[str, bytes] = field(default_factory=dict)  # description -> input


class Watch:
    """Records the lines of the package that are reached, and the paths that are written."""

    def __init__(self, with_lines: bool = True) -> None:
        self._with_lines = with_lines
        self.lines: set[tuple[str, int]] = set()
        self.written: list[str] = []
        self._is_on = False
        sys.addaudithook(self._audit)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Record while open."""
        self._is_on = True
        before = sys.gettrace()
        if self._with_lines:
            sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(before)
            self._is_on = False

    def _enter(self, frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(_PACKAGE):
            return None
        self._line(frame, event, _)
        return self._line

    def _line(self, frame: FrameType, event: str, _: Any) -> Any:
        self.lines.add((frame.f_code.co_filename, frame.f_lineno))
        return self._line

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._is_on:
            return
        is_write = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITE_FLAGS
        # `rmtree` removes by name below an open folder, whose own removal is recorded
        is_relative = event in ("os.remove", "os.rmdir") and arguments[1] >= 0
        if is_write or (event in _WRITE_EVENTS and not is_relative):
            self.written.append(str(arguments[0]))


def fuzz(target: Target, n_inputs: int, rng: Random, watch: Watch) -> Findings:
    """Return the findings of a target after `n_inputs` inputs; its seeds are the first of them."""
    findings, corpus = Findings(target.name), list(target.seeds)
    begun = time.monotonic()
    watch.lines.clear()
    for i in range(n_inputs):
        is_seed = i < len(target.seeds)
        content = corpus[i] if is_seed else mutate(rng, _pick(rng, corpus), corpus)
        n_before = len(watch.lines)
        try_one(target, content, findings, watch)
        if len(watch.lines) > n_before and not is_seed:
            corpus.append(content)
    target.put(target.seeds[0])  # other targets read this file too
    findings.n, findings.n_lines, findings.n_corpus = n_inputs, len(watch.lines), len(corpus)
    findings.seconds = time.monotonic() - begun
    return findings


def try_one(target: Target, content: bytes, findings: Findings, watch: Watch) -> None:
    """Give a target one input, and add a failure to the findings."""
    target.put(content)
    watch.written.clear()
    begun = time.process_time()
    failure = None
    try:
        with watch.on():
            target.run(content)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        failure = f"{type(error).__name__} at {place}: {error!s:.80}"
    seconds = time.process_time() - begun
    findings.slowest = max(findings.slowest, seconds)
    if seconds > _MAX_SECONDS:
        failure = failure or f"slow: {seconds:.1f} s"
    allowed = str(target.writes) if target.writes else None
    stray = [path for path in watch.written if not (allowed and path.startswith(allowed))]
    if stray:
        failure = failure or f"writes {stray[0]}"
    if failure:
        findings.failures.setdefault(failure, content)


def _pick(rng: Random, corpus: list[bytes]) -> bytes:
    # the newest inputs reached lines that the older ones did not
    return rng.choice(corpus[-_N_NEWEST:] if rng.random() < 0.5 else corpus)
