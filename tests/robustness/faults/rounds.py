"""The faults: kills, size limits, failed reads, truncated bases, two commands at once."""

import os
import random
import resource
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.robustness.faults import children, laws
from tests.robustness.faults.children import Moment
from tests.robustness.faults.scenes import (
    EDIT,
    FILE,
    FOLDER,
    N_EDITS,
    OTHER_EDIT,
    SCENES,
    Bases,
    Scene,
)

# a regular file of Linux's sysfs that can be opened and has a size, but cannot be read
UNREADABLE = Path("/sys/class/net/lo/speed")
_MAX_OUTPUT_BYTES = 9e6  # the longest file of any scene
_N_LAST_STEPS = 40  # steps before the end, around the renaming, at which each command is killed


@dataclass
class Tally:
    """The counts of one fault: the states that it left, and the laws that it broke."""

    fault: str
    ends: Counter[str] = field(default_factory=Counter)
    breaches: list[str] = field(default_factory=list)
    skipped: str | None = None  # the reason

    @property
    def n(self) -> int:
        """The number of times that the fault happened."""
        return sum(self.ends.values())

    def add(self, end: str, breaches: list[str]) -> None:
        """Count one fault."""
        self.ends[end] += 1
        self.breaches += breaches


@dataclass
class Rounds:
    """The bases, scenes and random numbers of all faults, and the length of each scene."""

    bases: Bases
    rng: random.Random
    scenes: tuple[Scene, ...] = SCENES
    lengths: dict[str, children.End] = field(default_factory=dict)
    ready: dict[str, Path] = field(default_factory=dict)

    def scene(self, i: int) -> Scene:
        """Return a scene; the scenes take turns."""
        return self.scenes[i % len(self.scenes)]

    def staged(self, scene: Scene, home: Path | None = None) -> Path:
        """Return a new folder in which the command of a scene can run."""
        if scene.name not in self.ready:
            folder = self.ready[scene.name] = self.bases.fresh(scene.base)
            if scene.before:
                _succeed(folder, scene.before)
        return self.bases.copy(self.ready[scene.name], home)

    def length(self, scene: Scene) -> children.End:
        """Return the end of a scene without faults, with its seconds and steps."""
        if scene.name not in self.lengths:
            folder = self.staged(scene)
            self.lengths[scene.name] = _succeed(folder, scene.command)
            assert laws.breaches(scene, folder, self.bases) == []
            shutil.rmtree(folder)
        return self.lengths[scene.name]

    def moment(self, scene: Scene, i: int) -> Moment:
        """Return a random moment of a scene: a step if `i` is odd, else a time."""
        whole = self.length(scene)
        if i % 2:
            return Moment(step=self.rng.randint(1, whole.steps))
        return Moment(seconds=self.rng.uniform(0, whole.seconds))

    def judge(self, tally: Tally, scene: Scene, folder: Path, end: children.End) -> None:
        """Check all laws after a fault, and count it."""
        name = {None: "killed", 0: "done"}.get(end.code, "refused")
        found = laws.breaches(scene, folder, self.bases) + laws.breaches_of_end(end)
        state = f"{name}: {laws.state(scene, folder)}"
        tally.add(state, [f"{scene.name}: {breach}" for breach in found])

    def repeat(self, tally: Tally, scene: Scene, folder: Path) -> None:
        """Check that the command succeeds after a fault, and removes what the fault left."""
        for back in (folder / final for final in scene.finals if final.startswith("back")):
            shutil.rmtree(back, ignore_errors=True)  # `--force` replaces outputs only
        _succeed(folder, scene.repetition)
        tally.breaches += laws.breaches(scene, folder, self.bases) + _leftovers(folder)


def kills(rounds: Rounds, n: int) -> Iterator[Tally]:
    """Kill every command at random moments, and at each of its last steps."""
    for scene in rounds.scenes:
        tally = Tally(f"SIGKILL: {scene.name}")
        last = rounds.length(scene).steps
        moments = [rounds.moment(scene, i) for i in range(n)]
        moments += [Moment(step=last - i) for i in range(min(n, _N_LAST_STEPS))]
        for i, moment in enumerate(moments):
            folder = rounds.staged(scene)
            end = children.run(folder, scene.command, moment)
            rounds.judge(tally, scene, folder, end)
            if i % 5 == 0:
                rounds.repeat(tally, scene, folder)
            shutil.rmtree(folder)
        yield tally


def small_files(rounds: Rounds, n: int) -> Iterator[Tally]:
    """Limit the size of every file to a random number of bytes."""
    tally = Tally("files are limited to a random size")
    for i in range(n):
        scene = rounds.scene(i)
        folder = rounds.staged(scene)
        limit = int(rounds.rng.uniform(0, 1.1) * _MAX_OUTPUT_BYTES)

        def shrink(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        end = children.run(folder, scene.command, Moment(step=1), shrink)
        rounds.judge(tally, scene, folder, end)
        tally.breaches += _leftovers(folder)
        shutil.rmtree(folder)
    yield tally


def unreadable(rounds: Rounds, n: int) -> Iterator[Tally]:
    """Add a file to the base that cannot be read."""
    tally = Tally("a read of the base fails")
    if not UNREADABLE.is_file():
        tally.skipped = f"this system has no unreadable file `{UNREADABLE}`"
    for _ in range(0 if tally.skipped else n):
        scene = SCENES[0]
        folder = rounds.staged(scene)
        (folder / FOLDER / "vae" / "notes.txt").symlink_to(UNREADABLE)
        end = children.run(folder, scene.command)
        found = laws.breaches_of_end(end)
        if end.code != 1 or "notes.txt" not in end.output:
            found.append(f"the error does not name the file: {end.output}")
        found += [f"left behind: {path.name}" for path in folder.iterdir() if path.name != FOLDER]
        tally.add("refused: no output" if end.code == 1 else "done", found)
        shutil.rmtree(folder)
    yield tally


def cut(rounds: Rounds, n: int) -> Iterator[Tally]:
    """Truncate a file of the base while it is read."""
    tally = Tally("the base is truncated while it is read")
    for i in range(n):
        scene = SCENES[i % N_EDITS]
        folder = rounds.staged(scene)
        is_file = scene.base == FILE
        victim = folder / (FILE if is_file else f"{FOLDER}/unet/{_unet(folder)}")
        size = int(rounds.rng.random() * victim.stat().st_size)

        def truncate(victim: Path = victim, size: int = size) -> None:
            os.truncate(victim, size)

        end = children.run(folder, scene.command, rounds.moment(scene, i), truncate)
        found = laws.breaches_of_end(end) + laws.breaches_of_outputs(folder)
        tally.add(f"{'done' if end.code == 0 else 'refused'}: {laws.state(scene, folder)}", found)
        shutil.rmtree(folder)
    yield tally


def together(rounds: Rounds, n: int) -> Iterator[Tally]:
    """Run two edits of one base at once, with the same output."""
    for force in ((), ("--force",)):
        tally = Tally(" ".join(("two edits to one output", *force)))
        for i in range(n):
            scene = SCENES[i % 2]
            folder = rounds.staged(scene)
            other = (*OTHER_EDIT, *scene.command[len(EDIT) :], *force)
            first = children.start(folder, (*scene.command, *force))
            second = children.start(folder, other)
            ends = [children.wait(child) for child in (first, second)]
            found = [breach for end in ends for breach in laws.breaches_of_end(end)]
            found += laws.breaches(scene, folder, rounds.bases) + _leftovers(folder)
            n_done = sum(end.code == 0 for end in ends)
            if n_done != (2 if force else 1):
                found.append(f"{n_done} of two edits report success: {ends}")
            tally.add(f"{n_done} done: {laws.state(scene, folder)}", found)
            shutil.rmtree(folder)
        yield tally


FAULTS: tuple[Callable[[Rounds, int], Iterator[Tally]], ...] = (
    kills,
    small_files,
    unreadable,
    cut,
    together,
)


def _succeed(folder: Path, command: tuple[str, ...]) -> children.End:
    end = children.run(folder, command)
    assert end.code == 0, (command, end)
    return end


def _leftovers(folder: Path) -> list[str]:
    """Return a sentence for each hidden folder, except one with an old output to restore."""
    found = folder.glob(".*.partial")
    return [
        f"left behind: {path.name}"
        for path in found
        if not (path / "old").exists() or not any(path.glob("new/*"))
    ]


def _unet(folder: Path) -> str:
    return next((folder / FOLDER / "unet").glob("*.safetensors")).name
