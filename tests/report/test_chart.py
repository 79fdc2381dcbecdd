"""The chart of layer candidates."""

from itertools import product

import pytest

from loco_cli.localization import WindowScore
from loco_cli.report.chart import PLOT_HEIGHT, PLOT_TOP, layer_chart


def window(layers, *scores):
    return WindowScore.of(layers, scores, original=0.3, target=0.1)


def test_a_bar_is_the_effect_with_its_standard_error(swept):
    """A bar's length, relative to the full swap, is the effect; its whisker is two errors long."""
    found = swept().localization

    chart = layer_chart(found, {})

    reach = chart.target.y - chart.original.y
    per_pixel = (found.original_score - found.target_score) / reach
    bars = zip(chart.panels[0].bars, found.scores, strict=True)
    for bar, score in list(bars)[1:]:  # the first has no effect, and a bar of one pixel
        top, bottom = bar.whisker
        assert bar.top == pytest.approx(chart.original.y)
        assert bar.height / reach == pytest.approx(score.effect, abs=1e-3)
        assert (bottom - top) * per_pixel == pytest.approx(2 * score.stderr, rel=1e-2)
        assert (top + bottom) / 2 == pytest.approx(bar.top + bar.height, abs=0.02)


def test_only_the_chosen_bar_is_marked(swept):
    """The bar of the chosen layers is marked, and its tooltip has their module paths."""
    bars = layer_chart(swept().localization, {1: "block.1", 2: "block.2"}).panels[0].bars

    assert [bar.is_chosen for bar in bars] == [False, True, False]
    assert "1: block.1\n2: block.2" in bars[1].title


FEW = [window([1], 0.3), window([1, 2], 0.1), window([0], 0.2), window([0, 3], 0.2)]
SINGLE = [window([i], 0.3) for i in reversed(range(16))]
DOUBLE = [window([i, i + 1], 0.2) for i in range(15)]
NUMBERS = [[(str(i),) for i in range(n)] for n in (16, 15)]
SETS = [window([0, 1, 2], 0.1), window([0, 2], 0.1), window([0], 0.3)]


@pytest.mark.parametrize(
    ("scores", "kind", "panels"),
    [
        pytest.param(FEW, None, [[("0",), ("1",), ("1", "2")], [("2",)]], id="few"),
        pytest.param(SINGLE + DOUBLE, None, NUMBERS, id="widths"),
        pytest.param(SETS, "set", [[("3",), ("2",), ("1",)]], id="set"),
    ],
)
def test_candidates_are_grouped_into_panels(swept, scores, kind, panels):
    """A few ranges share a panel, many have one per width, and sets keep the order of trials."""
    found = swept(scores=scores).localization.model_copy(update={"window": kind})

    chart = layer_chart(found, {})

    assert [[bar.numbers for bar in panel.bars] for panel in chart.panels] == panels


def test_everything_is_inside_the_plot(swept):
    """For any scores, no bar, whisker or level leaves the plot, and the ticks are distinct."""
    no_effect, outlier = [window([0], 0.3)], [window([0], 5.0, -5.0)]
    many_layers = [window([i], 0.3 - 0.001 * i) for i in range(70)]

    for scores, target in product((no_effect, outlier, many_layers), (0.1, 0.3, 0.9)):
        chart = layer_chart(swept(scores=scores, target_score=target).localization, {})
        ys = [y for bar in chart.panels[0].bars for y in (*bar.whisker, bar.top)]
        ys += [chart.original.y, chart.target.y, *(tick.y for tick in chart.ticks)]
        assert PLOT_TOP - 0.01 <= min(ys) <= max(ys) <= PLOT_TOP + PLOT_HEIGHT + 0.01
        assert 2 <= len({tick.words for tick in chart.ticks}) == len(chart.ticks) <= 8
