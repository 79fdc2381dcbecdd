"""Evaluations: figures, intervals and limits."""

import json

import pytest

from loco_cli.errors import RequestError
from loco_cli.evaluation import (
    Evaluation,
    ForgetImages,
    JudgedImage,
    KeepImages,
    _harmonic_mean,
    _interval,
    parse_limits,
)


def image(before=True, after=False, became=False):
    return JudgedImage(0.3, 0.2, before, after, became)


def forget(*images, edit=0, kind="style", prompt="a house by monet"):
    return ForgetImages(edit, kind, prompt, images)


def keep(*images, concept="cat", prompt="a photo of a cat"):
    return KeepImages(concept, prompt, images)


GONE = image(became=True)
KEPT = image(after=True)


def test_counts_only_what_the_base_gets_right():
    """
    An image that the base gets wrong does not count.
    """
    wrong = image(before=False, after=False, became=True)

    judged = Evaluation.of([forget(GONE, KEPT, wrong)], [keep(KEPT, image(), wrong)], [1000])

    assert judged.figures == {"forgotten": 0.5, "became": 0.5, "kept": 0.5}


def test_figures_are_paired_image_by_image():
    """
    Each image is compared with the base image of the same prompt and seed, not the mean share.
    """
    swapped = [image(before=True, after=False), image(before=False, after=True)]

    judged = Evaluation.of([forget(GONE)], [keep(*swapped)], [1000, 1001])

    assert judged.keep[0].recognised_before == judged.keep[0].recognised_after == 0.5
    assert judged.kept == 0


def test_every_edit_and_concept_has_the_same_weight():
    """
    A concept with more prompts has no larger weight in the mean.
    """
    edits = [forget(GONE, GONE, GONE), forget(image(after=True), edit=1)]
    kept = [keep(KEPT), keep(KEPT), keep(image(), concept="dog")]

    judged = Evaluation.of(edits, kept, [1000])

    assert judged.forgotten == 0.5
    assert judged.kept == 0.5


def test_a_fact_is_forgotten_if_it_became_its_target():
    """
    For a fact both figures are equal: an image with neither answer does not count as forgotten.
    """
    neither = image(before=True, after=False, became=False)

    judged = Evaluation.of([forget(GONE, neither, kind="fact")], [keep(KEPT)], [1000])

    assert judged.forgotten == judged.became == 0.5


def test_an_edit_that_cannot_be_judged_makes_the_figure_none():
    """
    If the base gets no image of an edit right, the mean of the other edits is not the figure.
    """
    unknown = forget(image(before=False), edit=1)

    judged = Evaluation.of([forget(GONE), unknown], [keep(KEPT)], [1000])

    assert judged.forgotten is None
    assert judged.became is None
    assert judged.harmonic_mean is None
    assert judged.kept == 1


@pytest.mark.parametrize(
    ("groups", "low", "high"),
    [
        ([[True] * 10], 0.7225, 1.0),  # n / (n + z^2)
        ([[True] * 5 + [False] * 5], 0.2366, 0.7634),
        ([[False] * 10], 0.0, 0.2775),
        ([[True] * 5, [True] * 5], 0.7225, 1.0),
    ],
)
def test_a_share_has_wilsons_interval(groups, low, high):
    """
    Ten of ten do not prove certainty, and equal groups have the interval of their union.
    """
    assert _interval(groups) == pytest.approx((low, high), abs=1e-4)


def test_a_small_group_widens_the_interval():
    """
    Groups have equal weights, so a group with few images makes the mean less certain.
    """
    even, odd = _interval([[True] * 8] * 2), _interval([[True] * 15, [True]])

    assert odd[0] < even[0]


def test_every_known_figure_has_its_interval():
    """
    A known figure is inside its interval; a figure of None has no interval.
    """
    judged = Evaluation.of([forget(GONE, KEPT)], [keep(KEPT)], [1000])
    unknown = Evaluation.of([forget(GONE)], [keep(image(before=False))], [1000])

    for name, figure in {**judged.figures, "harmonic_mean": judged.harmonic_mean}.items():
        low, high = judged.intervals[name]
        assert low <= figure <= high
    assert set(unknown.intervals) == {"forgotten", "became"}


def test_nothing_right_is_none_not_zero():
    """
    If the base gets no image right, the figure is None.
    """
    judged = Evaluation.of([forget(GONE)], [keep(image(before=False))], [1000])

    assert judged.kept is None
    assert Evaluation.of([], [keep(KEPT)], [1000]).forgotten is None


def test_prompts_without_labels_count_by_score_alone():
    """
    A prompt without labels has a row with scores and does not count in the figures.
    """
    unlabelled = keep(JudgedImage(0.3, 0.1), JudgedImage(0.5, 0.1), concept="a quiet street")

    judged = Evaluation.of([forget(GONE)], [keep(KEPT), unlabelled], [1000, 1001])

    row = judged.keep[1]
    assert (row.before, row.after) == (pytest.approx(0.4), pytest.approx(0.1))
    assert row.recognised_before is row.recognised_after is None
    assert judged.kept == 1
    assert judged.unlabelled == (pytest.approx(0.4), pytest.approx(0.1))
    assert Evaluation.of([forget(GONE)], [keep(KEPT)], [1000]).unlabelled is None


def test_harmonic_mean_punishes_the_lowest():
    """
    The harmonic mean is 0 if one figure is 0, and None if one is None.
    """
    assert _harmonic_mean((1.0, 1.0, 1.0)) == 1
    assert _harmonic_mean((1.0, 0.5, 0.5)) == pytest.approx(0.6)
    assert _harmonic_mean((1.0, 0.0, 1.0)) == 0
    assert _harmonic_mean((1.0, None, 1.0)) is None


def test_survives_json():
    """
    An evaluation written as JSON and read again is equal.
    """
    judged = Evaluation.of([forget(GONE)], [keep(KEPT)], [1000, 1001])

    assert Evaluation.model_validate(json.loads(json.dumps(judged.to_json()))) == judged


def test_names_figures_below_their_limits(golden):
    """
    A figure below its limit is named with both numbers; an unknown one is below every limit.
    """
    judged = Evaluation.of([forget(GONE, KEPT)], [keep(image(before=False))], [1000])

    assert judged.below({"forgotten": 0.5}) == ()
    golden("\n".join(judged.below({"forgotten": 0.9, "kept": 0.0})))


def test_reads_limits():
    """
    Limits have the form `name=share`, separated by commas.
    """
    assert parse_limits("forgotten=0.9, kept=1") == {"forgotten": 0.9, "kept": 1.0}


def test_refuses_wrong_limits(golden):
    """
    A limit that is not a share of a known figure is refused by name.
    """
    for text in ("forgoten=0.9", "", "kept", "kept=2", "kept=nan", "kept=x"):
        with golden.raises(RequestError, f"`{text.removesuffix('=0.9')}`"):
            parse_limits(text)
