"""A short version of the faults, in a process of its own, from which it forks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform != "linux", reason="forks, mounts and limits of Linux")
def test_no_law_is_broken(tmp_path):
    """
    Killed, without room, unread, forbidden or twice at once: no harm, no half, no traceback.
    """
    line = [sys.executable, "-m", "tests.faults", "--kills", "4", "--others", "1"]
    few = ["--scenes", "1", "--output", str(tmp_path / "tallies.json")]

    done = subprocess.run([*line, *few], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    tallies = json.loads((tmp_path / "tallies.json").read_text())
    assert sum(sum(one["ends"].values()) for one in tallies if "KILL" in one["fault"]) == 8
    assert [one["fault"] for one in tallies if not one["ends"] and not one["skipped"]] == []
