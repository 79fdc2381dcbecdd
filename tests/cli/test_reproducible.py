"""Reproducible outputs: a recipe, a model and a version give the same bytes."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.checkpoints import tree_bytes

ROOT = Path(__file__).parents[2]
FIXED = ("--set", "localize.width=15", "--set", "edit.strength=fixed")
FEW = ("--steps", "1", "--seeds", "1", *FIXED, "--no-cache")
EDITS = (
    ("edit", "van gogh style", *FEW, "--set", 'source=["a house by {subject}"]', "-o", "found"),
    ("edit", "snoopy", "--to", "a cat", "--layers", "1-2,8", "--as", "lora", "-o", "lora"),
)
SCRIPT = """
import sys
from loco_cli.cli.app import main

for edit in EDITS:
    sys.argv = ["loco", *edit]
    try:
        main()
    except SystemExit as end:
        assert not end.code
"""


def test_same_bytes(tmp_path):
    """
    With `SOURCE_DATE_EPOCH`, two processes write the same bytes in all files.
    """
    made = []
    for seed in ("0", "4242"):
        folder = tmp_path / seed
        folder.mkdir()
        variables = {
            "PYTHONHASHSEED": seed,
            "SOURCE_DATE_EPOCH": "1700000000",
            "PYTHONPATH": str(ROOT),
        }
        line = [sys.executable, "-c", SCRIPT.replace("EDITS", repr(EDITS))]
        environment = {**os.environ, **variables}
        subprocess.run(line, cwd=folder, env=environment, capture_output=True, check=True)
        made.append(tree_bytes(folder))

    once, again = made
    assert len(once) > 10
    assert [name for name in once if once[name] != again[name]] == []
    manifest = json.loads(once["found/loco-manifest.json"])
    assert manifest["created"] == "2023-11-14T22:13:20Z"
    assert manifest["localizations"][0]["scores"]
