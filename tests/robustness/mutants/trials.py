"""Trials of mutants: the tests of a scratch copy, with one bug planted at a time."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import cache_from_source
from pathlib import Path

from tests.robustness.mutants.catalog import PACKAGE, Mutant

# these read the source as text: a bug that only a linter notices is not covered by a law
_NOT_LAWS = ("tests/test_house.py", "tests/test_docs.py", "tests/robustness/mutants")
_FIRST = ("tests/cli", "tests/commands")  # most bugs of other rooms appear here
_NOT_COPIED = (".git", ".venv", "build", "__pycache__", ".hypothesis", ".*_cache")
_LIMIT_SECONDS = 3600  # for one run of tests; an endless loop counts as found
_FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", re.MULTILINE)
_NOTHING_COLLECTED = 5  # the exit code of pytest


@dataclass(frozen=True)
class Trial:
    """
    The outcome of one mutant.

    Args:
        mutant: Its name.
        killed_by: The test that failed first; None if all tests passed.
        is_whole: True if the whole suite ran, False if only the tests of the room did.
        seconds: The time that the tests took.
    """

    mutant: str
    killed_by: str | None
    is_whole: bool
    seconds: float

    @property
    def is_final(self) -> bool:
        """True if further tests cannot change the outcome."""
        return self.killed_by is not None or self.is_whole


@dataclass
class Laboratory:
    """
    A scratch copy of a checkout in which mutants are tried.

    Args:
        home: The folder of the copy, which is empty.
        root: The checkout.
    """

    home: Path
    root: Path
    _verdicts: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ignore = shutil.ignore_patterns(*_NOT_COPIED)
        shutil.copytree(self.root, self.home, ignore=ignore, dirs_exist_ok=True)

    def try_out(self, mutant: Mutant, *, with_rest: bool, has_passed_room: bool = False) -> Trial:
        """
        Return the outcome of a mutant: the tests of its module, its room, then the whole suite.

        Args:
            mutant: The bug to plant.
            with_rest: Run the rest of the suite if the tests of module and room pass.
            has_passed_room: Leave out these tests, which passed in an earlier run.

        Raises:
            ValueError: The snippet of the mutant does not occur exactly once.
            RuntimeError: The test that fails with the mutant also fails without it.
        """
        begun = time.monotonic()
        module, room = mutant.module_tests(self.home), mutant.room_tests(self.home)
        stages = [] if has_passed_room else [(module, ()), (room, module)]
        stages += [(self._all_tests(), (*module, *room))] if with_rest else []
        with self._planted(mutant):
            failures = (self._first_failure(*stage) for stage in stages if stage[0])
            killed_by = next(filter(None, failures), None)
        seconds = time.monotonic() - begun
        if killed_by and not self._passes(killed_by):
            raise RuntimeError(f"`{killed_by}` fails without mutant `{mutant.name}` too")
        return Trial(mutant.name, killed_by, with_rest, round(seconds, 1))

    @contextmanager
    def _planted(self, mutant: Mutant) -> Iterator[None]:
        file = self.home / PACKAGE / mutant.file
        before = file.read_text("utf-8")
        self._write(file, mutant.source(self.home))
        try:
            yield
        finally:
            self._write(file, before)

    @staticmethod
    def _write(file: Path, source: str) -> None:
        # bytecode of the same second and size would be taken for that of the new source
        Path(cache_from_source(str(file))).unlink(missing_ok=True)
        file.write_text(source, "utf-8")

    def _all_tests(self) -> list[str]:
        """Return the folders and files of the suite, those that run whole commands first."""
        found = {path.parent for path in (self.home / "tests").glob("*/test_*.py")}
        found |= set((self.home / "tests").glob("test_*.py")) | {self.home / "tests/robustness"}
        paths = sorted(path.relative_to(self.home).as_posix() for path in found if path.exists())
        return sorted(paths, key=lambda path: path not in _FIRST)

    def _passes(self, test: str) -> bool:
        if test not in self._verdicts:
            function = test.partition("[")[0]  # parameters may hold any letter
            self._verdicts[test] = self._first_failure((function,)) is None
        return self._verdicts[test]

    def _first_failure(self, tests: Sequence[str], left_out: Sequence[str] = ()) -> str | None:
        """Return the name of the first test that fails, or None."""
        left_out = (*left_out, *_NOT_LAWS)
        ignored = [f"--ignore={path}" for path in left_out]
        tests = [path for path in tests if path not in left_out]  # `--ignore` spares these
        options = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
        command = [sys.executable, "-m", "pytest", *options, *ignored, *tests]
        environment = {**os.environ, "PYTHONPATH": str(self.home), "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(
            command,
            cwd=self.home,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                output, _ = process.communicate(timeout=_LIMIT_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                return f"{tests[0]} (no end in {_LIMIT_SECONDS} s)"
        if process.returncode in (0, _NOTHING_COLLECTED):  # a room may have one test file
            return None
        failed = _FAILED.search(output)
        if failed is None:
            raise RuntimeError(f"pytest ended with {process.returncode}:\n{output[-2000:]}")
        return failed[1]
