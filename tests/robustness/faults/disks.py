"""
Private disks: one that fills up, and one that is read-only.

They are mounted in a namespace that ends with a forked process.
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

from tests.robustness.faults import children
from tests.robustness.faults.children import Moment
from tests.robustness.faults.rounds import Rounds, Tally

_NEW_NAMESPACE, _NEW_USER = 0x20000, 0x10000000  # CLONE_NEWNS, CLONE_NEWUSER of linux/sched.h
_DISK_MEGABYTES = 96  # room for one scene, and little more
_NOBODY = 65534  # the user and the group without rights


def full(rounds: Rounds, n: int) -> Iterator[Tally]:
    """Fill a private disk at a random step of a command."""
    for scene in rounds.scenes:
        rounds.length(scene)
    yield _on_private_disk(
        f"a disk of {_DISK_MEGABYTES} MB fills up", lambda t, d: _fill(rounds, n, t, d)
    )


def forbidden(rounds: Rounds, n: int) -> Iterator[Tally]:
    """Forbid writing: by the mode of the folder, and by a read-only disk, which binds root too."""
    tally = Tally("a folder without write permission")
    for i in range(n):
        folder = rounds.staged(rounds.scene(i))
        folder.chmod(0o555)
        _refused(rounds, tally, folder, i, _be_nobody)
        folder.chmod(0o755)
        shutil.rmtree(folder)
    yield tally
    yield _on_private_disk("a read-only disk", lambda t, d: _read_only(rounds, n, t, d))


def _fill(rounds: Rounds, n: int, tally: Tally, disk: Path) -> None:
    for i in range(n):
        scene = rounds.scene(i)
        folder = rounds.staged(scene, disk)
        ballast = folder / ".ballast"

        def fill(ballast: Path = ballast) -> None:
            # writes in pieces fill the disk to the last byte
            with suppress(OSError), ballast.open("ab", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 16))

        step = rounds.rng.randint(1, rounds.length(scene).steps)
        end = children.run(folder, scene.command, Moment(step=step), fill)
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
    if os.geteuid() == 0:  # the mode of a folder does not bind root
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
    end = children.run(folder, scene.command, Moment(step=1), first)
    found = [] if end.code == 1 else [f"no refusal: {end}"]
    found += [] if sorted(path.name for path in folder.iterdir()) == before else ["new files"]
    rounds.judge(tally, scene, folder, end)
    tally.breaches += found


def _on_private_disk(fault: str, work: Callable[[Tally, Path], None]) -> Tally:
    """Do some work on a private disk, in a forked process, and return its tally."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        _work_there(Tally(fault), work, write_end)
    os.close(write_end)
    with os.fdopen(read_end, encoding="utf-8") as pipe:
        ends, breaches, skipped = json.loads(pipe.read() or '[{}, ["the harness failed"], null]')
    os.waitpid(pid, 0)
    return Tally(fault, Counter(ends), breaches, skipped)


def _work_there(tally: Tally, work: Callable[[Tally, Path], None], write_end: int) -> None:
    disk = Path(tempfile.mkdtemp())
    try:
        tally.skipped = _mount(disk)
        if not tally.skipped:
            work(tally, disk)
        os.write(write_end, json.dumps([tally.ends, tally.breaches, tally.skipped]).encode())
    finally:
        subprocess.run(["umount", str(disk)], check=False, capture_output=True)
        with suppress(OSError):
            disk.rmdir()
        os._exit(0)


def _mount(disk: Path) -> str | None:
    """Mount a private disk for this process; return the reason if the system refuses."""
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NAMESPACE | (_NEW_USER if uid else 0)):
        return f"private mounts are refused: {os.strerror(ctypes.get_errno())}"
    try:
        if uid:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        private = ["mount", "--make-rprivate", "/"]
        small = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MEGABYTES}m", "none", str(disk)]
        for line in (private, small):
            subprocess.run(line, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"a private disk is refused: {error}"
    return None
