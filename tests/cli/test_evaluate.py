"""`loco evaluate` on the command line."""

import json

import pytest


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fact.yaml").write_text(
        "loco: 1\n"
        "edits: [{kind: fact, subject: the british monarch, to: king charles}]\n"
        "edit: {layers: [6, 7]}\n"
        "evaluate: {seeds: 1, steps: 1}\n"
    )
    return tmp_path


def test_failed_limit(loco, here):
    """
    A figure below its limit exits with 1, after the table, the figures and the files.
    """
    result = loco("evaluate", "fact.yaml", "--output", "found", "--fail-under", "became=1,kept=1")

    # after one step, no image shows its prompt
    assert result.exit_code == 1
    assert "a drawing of the british monarch" in result.stdout
    assert "harmonic mean" in result.stdout.splitlines()[-1]
    assert "wrote found/evaluation.json" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert sorted(path.name for path in (here / "found").iterdir()) == [
        "evaluation.json",
        "report.html",
        "sheet.png",
    ]


def test_json(loco):
    """
    With `--json`, stdout has only the document, whatever the exit code.
    """
    result = loco("evaluate", "fact.yaml", "--json", "--quiet", "--set", "evaluate.steps=2")

    document = json.loads(result.stdout)
    assert document["schema"] == "loco.evaluation/1"
    assert document["seeds"] == [1000]
    is_counted = document["harmonic_mean"] is not None
    assert result.exit_code == (0 if is_counted else 1)


def test_fact_as_text(loco):
    """
    `--set to=...` sets the target of a fact given as text.
    """
    result = loco(
        "evaluate",
        *("the british monarch fact", "--set", "to=king charles", "--layers", "6,7"),
        *("--dry-run", "--json"),
    )

    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["edits"][0]["to"] == "king charles"


def test_dry_run(loco, here):
    """
    `--dry-run` counts the images of both models, and makes none.
    """
    result = loco("evaluate", "fact.yaml", "--dry-run", "--json")

    plan = json.loads(result.stdout)
    assert plan["pictures"]["n_pictures"] % 2 == 0
    assert plan["localize"] is None
    assert [path.name for path in here.iterdir()] == ["fact.yaml"]
