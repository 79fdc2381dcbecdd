"""
Disks of one's own: small ones that fill up, and one that is read-only.

They are mounted in a namespace that only a forked process sees, and that goes with it.
"""

import ctypes
import json
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from tests.faults import children, laws
from tests.faults.children import When
from tests.faults.rounds import Rounds, Tally

_NEW_NAMESPACE, _NEW_USER = 0x20000, 0x10000000  # CLONE_NEWNS, CLONE_NEWUSER of linux/sched.h
_MEGABYTES = 96
_NOBODY = 65534


def full(rounds: Rounds, n: int) -> Iterator[Tally]:
    """Fill the disk at a random step of every command, on a disk of its own."""
    for scene in rounds.scenes:
        rounds.length(scene)
    yield _on_own_disk(f"a disk of {_MEGABYTES} MB fills up", lambda t, d: _fill(rounds, n, t, d))


def forbidden(rounds: Rounds, n: int) -> Iterator[Tally]:
    """Take the right to write away: by mode for a user, by a read-only disk for root too."""
    tally = Tally("a folder that may not be written to")
    for i in range(n):
        folder = rounds.staged(rounds.scene(i))
        folder.chmod(0o555)
        _refused(rounds, tally, folder, i, _be_nobody)
        folder.chmod(0o755)
        shutil.rmtree(folder)
    yield tally
    yield _on_own_disk("a disk that is read-only", lambda t, d: _read_only(rounds, n, t, d))


def _fill(rounds: Rounds, n: int, tally: Tally, disk: Path) -> None:
    for i in range(n):
        scene = rounds.scene(i)
        folder = rounds.staged(scene, disk)
        ballast = folder / ".ballast"

        def fill(ballast: Path = ballast) -> None:
            # in pieces, as another program would, down to the last byte
            with suppress(OSError), ballast.open("ab", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 16))

        step = rounds.luck.randint(1, rounds.length(scene).steps)
        end = children.run(folder, scene.command, When(step=step), fill)
        ballast.unlink(missing_ok=True)
        rounds.judge(tally, scene, folder, end)
        tally.breaches += [f"left behind: {path.name}" for path in folder.glob(".*.partial")]
        shutil.rmtree(folder)


def _read_only(rounds: Rounds, n: int, tally: Tally, disk: Path) -> None:
    for i in range(n):
        folder = rounds.staged(rounds.scene(i), disk)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        _refused(rounds, tally, folder, i)
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        shutil.rmtree(folder)


def _be_nobody() -> None:
    if os.geteuid() == 0:  # root may write whatever the mode
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)


def _refused(
    rounds: Rounds,
    tally: Tally,
    folder: Path,
    i: int,
    first: Callable[[], None] = lambda: None,
) -> None:
    scene = rounds.scene(i)
    before = sorted(path.name for path in folder.iterdir())
    end = children.run(folder, scene.command, When(step=1), first)
    found = [] if end.code == 1 and "cannot write" in end.said else [f"no refusal: {end}"]
    found += [] if sorted(path.name for path in folder.iterdir()) == before else ["new files"]
    rounds.judge(tally, scene, folder, end)
    tally.breaches += found + laws.of_end(end)


def _on_own_disk(fault: str, work: Callable[[Tally, Path], None]) -> Tally:
    """Return the tally of what is done on a small disk that is there for it alone."""
    heard, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(heard)
        _work_there(Tally(fault), work, told)
    os.close(told)
    with os.fdopen(heard, encoding="utf-8") as pipe:
        ends, breaches, skipped = json.loads(pipe.read() or '[{}, ["the harness fell"], null]')
    os.waitpid(pid, 0)
    return Tally(fault, Counter(ends), breaches, skipped)


def _work_there(tally: Tally, work: Callable[[Tally, Path], None], told: int) -> None:
    disk = Path(tempfile.mkdtemp())
    try:
        tally.skipped = _mount(disk)
        if not tally.skipped:
            work(tally, disk)
        os.write(told, json.dumps([tally.ends, tally.breaches, tally.skipped]).encode())
    finally:
        subprocess.run(["umount", str(disk)], check=False, capture_output=True)
        with suppress(OSError):
            disk.rmdir()
        os._exit(0)


def _mount(disk: Path) -> str | None:
    """Mount a small disk that only this process sees; return why that cannot be, if so."""
    who = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NAMESPACE | (_NEW_USER if who[0] else 0)):
        return f"no mounts of one's own here: {os.strerror(ctypes.get_errno())}"
    try:
        if who[0]:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {who[0]} 1")
            Path("/proc/self/gid_map").write_text(f"0 {who[1]} 1")
        private = ["mount", "--make-rprivate", "/"]
        small = ["mount", "-t", "tmpfs", "-o", f"size={_MEGABYTES}m", "none", str(disk)]
        for line in (private, small):
            subprocess.run(line, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no disk of one's own here: {error}"
    return None
