"""The bars of a measured strength."""

from loco_cli.manifest import Strength, StrengthTrial
from loco_cli.report.chart import PLOT_HEIGHT, PLOT_TOP, Ladder
from loco_cli.report.html import render_edit_report, render_evaluation_report
from tests.report.manifests import manifest_of


def strength(*shares, chosen=0):
    """Return a strength with a trial for each triple of forgotten, became and kept."""
    tried = tuple(
        StrengthTrial(layers=((8, 9),), ridge=f"{i}x", forgotten=f, became=b, kept=k, n=16)
        for i, (f, b, k) in enumerate(shares)
    )
    return Strength(
        target=0.95, seeds=(100, 101), steps=10, prompts=("a fish",), tried=tried, chosen=chosen
    )


def test_a_bar_is_as_high_as_its_share():
    """
    A share of one half fills half of the plot, zero is a line, and an unknown share has no bar.
    """
    ladder = Ladder.of(strength((0.5, 0.0, None), (1.0, 1.0, 0.5), chosen=1))
    first, second = ladder.rungs

    heights = [(bar.name, bar.height) for bar in first.bars]
    assert heights == [("forgotten", PLOT_HEIGHT / 2), ("became", 1.0)]
    assert [bar.name for bar in second.bars] == ["forgotten", "became", "kept"]
    assert (first.is_chosen, second.is_chosen) == (False, True)
    assert second.layers == "8–9"
    assert Ladder.of(None) is None


def test_every_bar_is_inside_its_slot_and_the_plot():
    """
    No bar leaves its slot or the plot, for any number of trials.
    """
    for n in (1, 5, 15):
        ladder = Ladder.of(strength(*[(1.0, 0.0, 0.3)] * n, chosen=n - 1))
        for rung in ladder.rungs:
            for bar in rung.bars:
                assert rung.slot_left <= bar.left + 0.01
                assert bar.left + bar.width <= rung.slot_left + rung.slot + 0.01
                assert bar.top >= PLOT_TOP
                assert bar.top + bar.height <= PLOT_TOP + PLOT_HEIGHT + 1
        assert ladder.rungs[-1].number == f"{n - 1}x"
        assert PLOT_TOP <= ladder.target.y <= PLOT_TOP + PLOT_HEIGHT


def test_pages_list_every_trial(judged):
    """
    The pages of an edit and an evaluation have a section on the strength if it was measured.
    """
    evaluation, pairs = judged()

    for measured in (strength((1.0, 0.9, None), (1.0, 1.0, 1.0), chosen=1), None):
        edit = render_edit_report(
            manifest_of((), strength=measured), title="t", localizations=(), tensors=()
        )
        evaluated = render_evaluation_report(
            evaluation, pairs, title="t", recipe="", command=(), strength=measured
        )
        for page in (edit, evaluated):
            assert ("<h2>Strength</h2>" in page) == (measured is not None)
            assert ('<tr class="chosen"><td>8–9</td><td>1x</td>' in page) == (measured is not None)
