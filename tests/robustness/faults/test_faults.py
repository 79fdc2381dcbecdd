"""A short version of the faults, in a separate process that forks the commands."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.skipif(sys.platform != "linux", reason="needs forks, mounts and limits of Linux")
def test_no_law_is_broken(tmp_path):
    """
    No fault damages a base, leaves a partial output, or ends in a traceback.
    """
    command = [sys.executable, "-m", "tests.robustness.faults", "--kills", "4", "--others", "1"]
    options = ["--scenes", "1", "--output", str(tmp_path / "tallies.json")]

    done = subprocess.run(
        [*command, *options], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    tallies = json.loads((tmp_path / "tallies.json").read_text())
    assert sum(sum(tally["ends"].values()) for tally in tallies if "KILL" in tally["fault"]) == 8
    assert [tally["fault"] for tally in tallies if not (tally["ends"] or tally["skipped"])] == []
