"""The bars of a measured strength."""

from loco_cli.report.chart import PLOT_HEIGHT, PLOT_TOP, Ladder
from loco_cli.report.html import render_edit_report, render_evaluation_report
from tests.report.manifests import manifest_of, strength_of


def test_a_bar_is_as_high_as_its_share():
    """
    A share of one half fills half of the plot, zero is a line, and an unknown share has no bar.
    """
    ladder = Ladder.of(strength_of((0.5, 0.0, None), (1.0, 1.0, 0.5), chosen=1))
    first, second = ladder.rungs

    heights = [(bar.name, bar.height) for bar in first.bars]
    assert heights == [("forgotten", PLOT_HEIGHT / 2), ("became", 1.0)]
    assert all(bar.top + bar.height >= PLOT_TOP + PLOT_HEIGHT for bar in first.bars)
    assert [bar.name for bar in second.bars] == ["forgotten", "became", "kept"]
    assert (first.is_chosen, second.is_chosen) == (False, True)


def test_every_bar_is_inside_its_slot():
    """No bar leaves its slot, and the chosen trial has its ridge, for any number of trials."""
    for n in (1, 5, 15):
        ladder = Ladder.of(strength_of(*[(1.0, 0.0, 0.3)] * n, chosen=n - 1))
        for rung in ladder.rungs:
            assert rung.slot_left <= min(bar.left for bar in rung.bars) + 0.01
            right = max(bar.left + bar.width for bar in rung.bars)
            assert right <= rung.slot_left + rung.slot + 0.01
        assert ladder.rungs[-1].number == f"{n}x"


def test_pages_list_every_trial(judged):
    """The pages of an edit and an evaluation have a section on the strength if it was measured."""
    for strength in (strength_of((1.0, 0.9, None), (1.0, 1.0, 1.0), chosen=1), None):
        manifest = manifest_of((), strength=strength)
        for page in (
            render_edit_report(manifest, title="t", localizations=(), tensors=()),
            render_evaluation_report(
                *judged(), title="t", recipe="", command=(), strength=strength
            ),
        ):
            is_measured = strength is not None
            assert ("<h2>Strength</h2>" in page) == is_measured
            assert ('<tr class="chosen"><td>8–9</td><td>2x</td>' in page) == is_measured
