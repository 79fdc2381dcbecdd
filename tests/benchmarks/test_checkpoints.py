"""The checkpoint benchmark: its targets, and a run on a small model."""

import json
import subprocess
import sys

import pytest

from tests.benchmarks.children import Run
from tests.benchmarks.figures import figures, table

SECONDS = {
    "cp": 4.0,
    "sync": 2.0,
    "openssl": 4.0,
    "edit": 9.0,
    "cmp": 5.0,
    "diff": 7.0,
    "usual way": 80.0,
    **dict.fromkeys(("edit, defaults", "edit, all layers"), 12.0),
    **dict.fromkeys(("diff, defaults", "diff, all layers"), 8.0),
}


def runs(**peaks):
    """Return two runs of every step, the second slower by half."""
    return {
        name: [Run(factor * seconds, peaks.get(name, 2**30)) for factor in (1.0, 1.5)]
        for name, seconds in SECONDS.items()
    }


def test_medians_are_compared_with_the_targets():
    """
    Each target compares medians or peaks, and the table marks a missed target.
    """
    found = {(one.name, one.of): one for one in figures(runs(edit=2**30, **{"usual way": 2**33}))}

    judged = {key: one.is_met for key, one in found.items() if one.is_met is not None}
    assert judged == {
        ("edit", "time / copy"): True,
        ("edit", "peak MiB"): True,
        ("edit", "peak / usual way"): True,
        ("usual way", "time / edit"): False,
        ("diff", "time / cmp"): False,
    }
    assert found["edit", "time / copy"].value == pytest.approx(0.9)
    assert found["edit", "time / copy"].to_json()["median_seconds"] == 11.25
    assert "time / cmp 1.4, MISSED: at most 1.3" in table(found.values())


def test_runs_at_reduced_widths(tmp_path):
    """
    Every step of the benchmark runs on a small model, and the work folder ends up empty.

    The test starts a dozen processes, as a full-size run does.
    """
    work, output = tmp_path / "work", tmp_path / "figures.json"
    command = (sys.executable, "-m", "tests.benchmarks.checkpoints", "--small", "--repeat", "1")

    subprocess.run(
        [*command, "--model", "sd15", "--work", work, "--output", output],
        check=True,
        stdout=subprocess.DEVNULL,
    )

    (model,) = json.loads(output.read_text())["models"]
    named = [figure["name"] for figure in model["figures"]]
    assert set(named) >= {*SECONDS, "copy", "solve, 10 concepts, 70 keys"}
    assert all(figure["median_seconds"] > 0 for figure in model["figures"])
    assert list(work.iterdir()) == []
