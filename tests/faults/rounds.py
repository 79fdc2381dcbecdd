"""The faults: kills, full disks, failed reads, missing rights, cut bases, two at once."""

import os
import random
import resource
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import children, laws
from tests.faults.children import When
from tests.faults.scenes import EDIT, FILE, FOLDER, N_EDITS, OTHER, SCENES, Bases, Scene

# a regular file that can be opened and has a size, and whose read fails; sysfs of Linux has some
UNREADABLE = Path("/sys/class/net/lo/speed")


@dataclass
class Tally:
    """How often a fault came, what was there afterwards, and which laws did not hold."""

    fault: str
    ends: Counter[str] = field(default_factory=Counter)
    breaches: list[str] = field(default_factory=list)
    skipped: str | None = None

    @property
    def n(self) -> int:
        """How many times the fault came."""
        return sum(self.ends.values())

    def add(self, end: str, breaches: list[str]) -> None:
        """Count one time."""
        self.ends[end] += 1
        self.breaches += breaches


@dataclass
class Rounds:
    """What all faults need: bases, luck, and how long and how many steps each scene is."""

    bases: Bases
    luck: random.Random
    scenes: tuple[Scene, ...] = SCENES
    lengths: dict[str, children.End] = field(default_factory=dict)
    ready: dict[str, Path] = field(default_factory=dict)

    def scene(self, i: int) -> Scene:
        """Return the scenes in turn."""
        return self.scenes[i % len(self.scenes)]

    def staged(self, scene: Scene, home: Path | None = None) -> Path:
        """Return a fresh folder in which a scene may begin."""
        if scene.name not in self.ready:
            folder = self.ready[scene.name] = self.bases.fresh(scene.base)
            if scene.before:
                _succeed(folder, scene.before)
        return self.bases.copy(self.ready[scene.name], home)

    def length(self, scene: Scene) -> children.End:
        """Return how a scene ends without faults."""
        if scene.name not in self.lengths:
            folder = self.staged(scene)
            self.lengths[scene.name] = _succeed(folder, scene.command)
            assert laws.breaches(scene, folder, self.bases) == []
            shutil.rmtree(folder)
        return self.lengths[scene.name]

    def moment(self, scene: Scene, i: int) -> When:
        """Return a random moment of a scene: a time, or every second time a step."""
        whole = self.length(scene)
        if i % 2:
            return When(step=self.luck.randint(1, whole.steps))
        return When(seconds=self.luck.uniform(0, whole.seconds))

    def judge(self, tally: Tally, scene: Scene, folder: Path, end: children.End) -> None:
        """Hold what is there against the laws, then try again without a fault."""
        name = {None: "killed", 0: "done"}.get(end.code, "refused")
        found = laws.breaches(scene, folder, self.bases) + laws.of_end(end)
        tally.add(f"{name}: {laws.state(scene, folder)}", [f"{scene.name}: {b}" for b in found])

    def again(self, tally: Tally, scene: Scene, folder: Path) -> None:
        """See that the command can be repeated, and then leaves nothing of the fault."""
        for back in (folder / final for final in scene.finals if final.startswith("back")):
            shutil.rmtree(back, ignore_errors=True)  # which is no output, and never replaced
        _succeed(folder, scene.again)
        left = [f"left behind: {path.name}" for path in _dead(folder)]
        tally.breaches += laws.breaches(scene, folder, self.bases) + left


def kills(rounds: Rounds, n: int) -> Iterator[Tally]:
    """Kill every command at random moments, and at the steps around its renaming."""
    for scene in rounds.scenes:
        tally = Tally(f"SIGKILL: {scene.name}")
        last = rounds.length(scene).steps
        moments = [rounds.moment(scene, i) for i in range(n)]
        moments += [When(step=last - i) for i in range(min(n, 40))]
        for i, when in enumerate(moments):
            folder = rounds.staged(scene)
            end = children.run(folder, scene.command, when)
            rounds.judge(tally, scene, folder, end)
            if i % 5 == 0:
                rounds.again(tally, scene, folder)
            shutil.rmtree(folder)
        yield tally


def small_files(rounds: Rounds, n: int) -> Iterator[Tally]:
    """Have the system refuse to make any file longer than some random size."""
    tally = Tally("no file may be longer than some size")
    for i in range(n):
        scene = rounds.scene(i)
        folder = rounds.staged(scene)
        limit = int(rounds.luck.uniform(0, 1.1) * 9e6)

        def shrink(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        end = children.run(folder, scene.command, When(step=1), shrink)
        rounds.judge(tally, scene, folder, end)
        tally.breaches += [f"left behind: {path.name}" for path in _dead(folder)]
        shutil.rmtree(folder)
    yield tally


def unreadable(rounds: Rounds, n: int) -> Iterator[Tally]:
    """Let one of the base's files fail when it is read."""
    tally = Tally("a read of the base fails")
    if not UNREADABLE.is_file():
        tally.skipped = f"there is no {UNREADABLE}, whose reading fails"
    for _ in range(0 if tally.skipped else n):
        scene = SCENES[0]
        folder = rounds.staged(scene)
        (folder / FOLDER / "vae" / "notes.txt").symlink_to(UNREADABLE)
        end = children.run(folder, scene.command)
        found = laws.of_end(end)
        if end.code != 1 or "cannot read" not in end.said or "notes.txt" not in end.said:
            found.append(f"the file is not named: {end.said}")
        found += [f"left behind: {path.name}" for path in folder.iterdir() if path.name != FOLDER]
        tally.add("refused: no output" if end.code == 1 else "done", found)
        shutil.rmtree(folder)
    yield tally


def cut(rounds: Rounds, n: int) -> Iterator[Tally]:
    """Cut a file of the base short while it is read."""
    tally = Tally("the base is cut short while it is read")
    for i in range(n):
        scene = SCENES[i % N_EDITS]
        folder = rounds.staged(scene)
        is_file = scene.base == FILE
        victim = folder / (FILE if is_file else f"{FOLDER}/unet/{_unet(folder)}")
        size = int(rounds.luck.random() * victim.stat().st_size)

        def shorten(victim: Path = victim, size: int = size) -> None:
            os.truncate(victim, size)

        end = children.run(folder, scene.command, rounds.moment(scene, i), shorten)
        found = laws.of_end(end) + laws.outputs(folder)
        tally.add(f"{'done' if end.code == 0 else 'refused'}: {laws.state(scene, folder)}", found)
        shutil.rmtree(folder)
    yield tally


def together(rounds: Rounds, n: int) -> Iterator[Tally]:
    """Start two edits of one base to one output, at nearly the same time."""
    for force in ((), ("--force",)):
        tally = Tally(" ".join(("two edits to one output", *force)))
        for i in range(n):
            scene = SCENES[i % 2]
            folder = rounds.staged(scene)
            other = (*OTHER, *scene.command[len(EDIT) :], *force)
            first = children.start(folder, (*scene.command, *force))
            second = children.start(folder, other)
            ends = [children.wait(one) for one in (first, second)]
            found = [breach for end in ends for breach in laws.of_end(end)]
            found += laws.breaches(scene, folder, rounds.bases)
            found += [f"left behind: {path.name}" for path in _dead(folder)]
            done = sum(end.code == 0 for end in ends)
            if not (done == 2 if force else done == 1):
                found.append(f"{done} of two edits say that they have written: {ends}")
            tally.add(f"{done} done: {laws.state(scene, folder)}", found)
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


def _dead(folder: Path) -> list[Path]:
    """Return hidden folders, but for those with an output that was never replaced by another."""
    found = folder.glob(".*.partial")
    return [path for path in found if not (path / "old").exists() or not any(path.glob("new/*"))]


def _unet(folder: Path) -> str:
    return next((folder / FOLDER / "unet").glob("*.safetensors")).name
