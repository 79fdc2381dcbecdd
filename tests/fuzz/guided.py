"""Fuzzing by coverage: an input that reaches a line no other has is kept, and changed further."""

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
from tests.fuzz.mutate import mutate
from tests.fuzz.targets import Target

_PACKAGE = str(Path(loco_cli.__file__).parent)
_SLOW_SECONDS = 1.0  # of the processor, for 64 KiB that are honest in hundredths
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.chmod"}


@dataclass
class Findings:
    """What came of one target: how many inputs, lines and seconds, and what is wrong."""

    target: str
    n: int = 0
    n_lines: int = 0
    n_corpus: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    wrong: dict[str, bytes] = field(default_factory=dict)  # what, and the first input


class Watch:
    """Sees which lines of the package are reached, and whether anything is written meanwhile."""

    def __init__(self, with_lines: bool = True) -> None:
        self._with_lines = with_lines
        self.lines: set[tuple[str, int]] = set()
        self.written: list[str] = []
        self._is_on = False
        sys.addaudithook(self._audit)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Watch what is done inside."""
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
        is_write = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES
        # below an open folder that was made here, as rmtree goes
        is_inside = event in ("os.remove", "os.rmdir") and arguments[1] >= 0
        if is_write or (event in _CHANGES and not is_inside):
            self.written.append(str(arguments[0]))


def fuzz(target: Target, n: int, luck: Random, watch: Watch) -> Findings:
    """Return what came of `n` inputs."""
    found, corpus = Findings(target.name), list(target.seeds)
    begun = time.monotonic()
    watch.lines.clear()
    for i in range(n):
        is_seed = i < len(target.seeds)
        content = corpus[i] if is_seed else mutate(luck, _pick(luck, corpus), corpus)
        n_before = len(watch.lines)
        try_one(target, content, found, watch)
        if len(watch.lines) > n_before and not is_seed:
            corpus.append(content)
    target.put(target.seeds[0])  # others read what lies beside it
    found.n, found.n_lines, found.n_corpus = n, len(watch.lines), len(corpus)
    found.seconds = time.monotonic() - begun
    return found


def try_one(target: Target, content: bytes, found: Findings, watch: Watch) -> None:
    target.put(content)
    watch.written.clear()
    begun = time.process_time()
    wrong, place = None, str(target.writes or "")
    try:
        with watch.on():
            target.run(content)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        wrong = f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}: {error!s:.80}"
    seconds = time.process_time() - begun
    found.slowest = max(found.slowest, seconds)
    if seconds > _SLOW_SECONDS:
        wrong = wrong or f"slow: {seconds:.1f} s"
    stray = [path for path in watch.written if not (place and path.startswith(place))]
    if stray:
        wrong = wrong or f"writes {stray[0]}"
    if wrong:
        found.wrong.setdefault(wrong, content)


def _pick(luck: Random, corpus: list[bytes]) -> bytes:
    # the newest reached something the others did not
    return luck.choice(corpus[-20:] if luck.random() < 0.5 else corpus)
