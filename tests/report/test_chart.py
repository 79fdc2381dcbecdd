"""The chart of layer candidates."""

from itertools import product

import pytest

from loco_cli.localization import WindowScore
from loco_cli.report.chart import PLOT_HEIGHT, PLOT_TOP, layer_chart


def window(layers, *scores):
    return WindowScore.of(layers, scores, original=0.3, target=0.1)


def test_a_bar_reaches_from_the_original_to_its_score(swept):
    """
    The length of a bar, relative to the full swap's line, is the effect of its candidate.
    """
    found = swept().localization

    chart = layer_chart(found, {})
    bar = chart.panels[0].bars[1]

    reach = chart.target.y - chart.original.y
    assert bar.top == pytest.approx(chart.original.y)
    assert bar.height / reach == pytest.approx(found.scores[1].effect, abs=1e-3)


def test_error_bars_are_one_standard_error(swept):
    """
    The whisker extends one standard error to each side of the end of the bar.
    """
    found = swept().localization
    chart = layer_chart(found, {})
    bar, score = chart.panels[0].bars[2], found.scores[2]

    per_pixel = (found.original_score - found.target_score) / (chart.target.y - chart.original.y)
    top, bottom = bar.whisker

    assert (bottom - top) * per_pixel == pytest.approx(2 * score.stderr, rel=1e-2)
    assert (top + bottom) / 2 == pytest.approx(bar.top + bar.height, abs=0.02)


def test_only_the_chosen_bar_is_marked(swept):
    """
    The bar of the chosen layers is marked, and its tooltip has their module paths.
    """
    chart = layer_chart(swept().localization, {1: "block.1", 2: "block.2"})

    assert [bar.is_chosen for bar in chart.panels[0].bars] == [False, True, False]
    assert "1: block.1\n2: block.2" in chart.panels[0].bars[1].title


def test_few_ranges_share_a_panel(swept):
    """
    A few ranges share one panel, narrow ones first; sets have a panel of their own.
    """
    scores = [window([1], 0.3), window([1, 2], 0.1), window([0], 0.2), window([0, 3], 0.2)]

    chart = layer_chart(swept(scores=scores).localization, {})

    assert [[bar.numbers for bar in panel.bars] for panel in chart.panels] == [
        [("0",), ("1",), ("1", "2")],
        [("2",)],
    ]
    assert chart.y_of_numbers(1) < chart.height


def test_each_width_of_a_sweep_has_a_panel(swept):
    """
    Many ranges have one panel per width, in the order of the layers.
    """
    single = [window([i], 0.3) for i in reversed(range(16))]
    double = [window([i, i + 1], 0.2) for i in range(15)]

    chart = layer_chart(swept(scores=single + double).localization, {})

    assert [len(panel.bars) for panel in chart.panels] == [16, 15]
    assert [bar.numbers for bar in chart.panels[0].bars] == [(str(i),) for i in range(16)]


def test_a_search_for_a_set_has_one_panel(swept):
    """
    Adjacent sets stay among the others, in the order of the trials.
    """
    scores = [window([0, 1, 2], 0.1), window([0, 2], 0.1), window([0], 0.3)]
    found = swept(scores=scores).localization.model_copy(update={"window": "set"})

    (panel,) = layer_chart(found, {}).panels

    assert [bar.numbers for bar in panel.bars] == [("3",), ("2",), ("1",)]


def test_everything_is_inside_the_plot(swept):
    """
    For any scores, no bar, whisker or level leaves the plot, and the scale has distinct ticks.
    """
    no_effect, outlier = [window([0], 0.3)], [window([0], 5.0, -5.0)]
    many_layers = [window([i], 0.3 - 0.001 * i) for i in range(70)]

    for scores, target in product((no_effect, outlier, many_layers), (0.1, 0.3, 0.9)):
        chart = layer_chart(swept(scores=scores, target_score=target).localization, {})
        bars = chart.panels[0].bars
        ys = [y for bar in bars for y in (*bar.whisker, bar.top)]
        ys += [chart.original.y, chart.target.y, *(tick.y for tick in chart.ticks)]
        assert all(PLOT_TOP - 0.01 <= y <= PLOT_TOP + PLOT_HEIGHT + 0.01 for y in ys)
        assert all(bar.left >= 0 and bar.left + bar.width <= 100.01 for bar in bars)
        assert 2 <= len(chart.ticks) <= 8
        assert len({tick.words for tick in chart.ticks}) == len(chart.ticks)


def test_levels_keep_their_words_apart(swept):
    """
    The label of the higher line is above it, that of the lower line below, even if both coincide.
    """
    falls, rises, stays = (
        layer_chart(swept(target_score=target).localization, {}) for target in (0.1, 0.5, 0.3)
    )

    assert falls.original.words_y < falls.original.y < falls.target.y < falls.target.words_y
    assert rises.target.words_y < rises.target.y < rises.original.y < rises.original.words_y
    assert stays.original.words_y < stays.original.y == stays.target.y < stays.target.words_y
