"""`loco cache` on the command line."""

import json

from typer.testing import CliRunner

from loco_cli.cli.app import app
from loco_cli.localizing.cache import CachedRun, RunCache, _runs_folder


def test_show_and_clear():
    """
    `show` counts the cached runs, and `clear` deletes them.
    """
    RunCache(_runs_folder(), "model").store_run(CachedRun(0.5), "a")

    shown = CliRunner().invoke(app, ["cache", "show", "--json"])
    cleared = CliRunner().invoke(app, ["cache", "clear"])
    empty = CliRunner().invoke(app, ["cache", "show"])

    document = json.loads(shown.stdout)
    assert (document["schema"], document["runs"]) == ("loco.cache/1", 1)
    assert "/" not in document["folder"]
    assert cleared.stdout.startswith("removed 1 runs")
    assert empty.stdout.startswith("0 runs, 0.0 MB of at most 537 MB in ")
