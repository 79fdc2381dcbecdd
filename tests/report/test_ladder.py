"""The bars of strengths that were tried."""

import pytest

from loco_cli.manifest import Strength, StrengthTrial
from loco_cli.report.chart import PLOT_HEIGHT, PLOT_TOP, Ladder
from loco_cli.report.html import render_edit_report, render_evaluation_report
from tests.report.manifests import manifest_of


def strength(*shares, chosen=0, **changes):
    tried = tuple(
        StrengthTrial(
            layers=((8, 9), (8, 9)), ridge=f"{i}x", forgotten=f, became=b, kept=k, n=16, short=()
        )
        for i, (f, b, k) in enumerate(shares)
    )
    known = {"target": 0.95, "seeds": (100, 101), "steps": 10, "prompts": ("a fish", "a robot")}
    return Strength(**{**known, "tried": tried, "chosen": chosen if tried else None, **changes})


def test_a_bar_is_as_high_as_its_share():
    """
    Half of the plot is one half, nothing is a line, and what is not known has no bar.
    """
    ladder = Ladder.of(strength((0.5, 0.0, None), (1.0, 1.0, 0.5), chosen=1))
    first, second = ladder.rungs

    assert [(bar.name, bar.height) for bar in first.bars] == [
        ("forgotten", PLOT_HEIGHT / 2),
        ("became", 1.0),
    ]
    assert [bar.name for bar in second.bars] == ["forgotten", "became", "kept"]
    assert (first.is_chosen, second.is_chosen) == (False, True)
    assert second.layers == "8–9"
    assert Ladder.of(None) is None


@pytest.mark.parametrize("n", [1, 5, 15])
def test_everything_is_inside_the_plot(n):
    """
    No bar leaves its slot or the plot, however many strengths were tried.
    """
    ladder = Ladder.of(strength(*[(1.0, 0.0, 0.3)] * n, chosen=n - 1))

    for rung in ladder.rungs:
        for bar in rung.bars:
            assert rung.slot_left <= bar.left + 0.01
            assert bar.left + bar.width <= rung.slot_left + rung.slot + 0.01
            assert PLOT_TOP <= bar.top <= bar.top + bar.height <= PLOT_TOP + PLOT_HEIGHT + 1
    assert ladder.rungs[-1].number == f"{n - 1}x"
    assert PLOT_TOP <= ladder.target.y <= PLOT_TOP + PLOT_HEIGHT


@pytest.mark.parametrize("found", [strength((1.0, 0.9, None), (1.0, 1.0, 1.0), chosen=1), None])
def test_pages_show_what_was_measured(judged, found):
    """
    The reports of an edit and of an evaluation have a row for every strength, where there are any.
    """
    evaluation, pairs = judged()
    known = {"title": "t", "recipe": "loco: 1\n", "command": (), "strength": found}
    edit = render_edit_report(
        manifest_of((), strength=found), title="t", localizations=(), tensors=()
    )
    pages = (edit, render_evaluation_report(evaluation, pairs, **known))

    for page in pages:
        assert ("<h2>Strength</h2>" in page) == (found is not None)
        assert ('<tr class="chosen"><td>8–9</td><td>1x</td>' in page) == (found is not None)
