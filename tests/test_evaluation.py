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
    An image that the base already got wrong says nothing about the edit.
    """
    wrong = image(before=False, after=False, became=True)

    judged = Evaluation.of([forget(GONE, KEPT, wrong)], [keep(KEPT, image(), wrong)], [1000])

    assert judged.figures == {"forgotten": 0.5, "became": 0.5, "kept": 0.5}


def test_figures_are_paired_image_by_image():
    """
    Equal shares before and after do not mean kept: each image is held against its own base.
    """
    swapped = [image(before=True, after=False), image(before=False, after=True)]

    judged = Evaluation.of([forget(GONE)], [keep(*swapped)], [1000, 1001])

    assert judged.keep[0].recognised_before == judged.keep[0].recognised_after == 0.5
    assert judged.kept == 0


def test_every_edit_and_concept_weighs_the_same():
    """
    A concept with more prompts does not weigh more in the mean.
    """
    edits = [forget(GONE, GONE, GONE), forget(image(after=True), edit=1)]
    kept = [keep(KEPT), keep(KEPT), keep(image(), concept="dog")]

    judged = Evaluation.of(edits, kept, [1000])

    assert judged.forgotten == 0.5
    assert judged.kept == 0.5


def test_a_fact_is_forgotten_where_it_became_its_target():
    """
    For a fact the two figures are one: neither the old answer nor the new is no update.
    """
    neither = image(before=True, after=False, became=False)

    judged = Evaluation.of([forget(GONE, neither, kind="fact")], [keep(KEPT)], [1000])

    assert judged.forgotten == judged.became == 0.5


def test_an_edit_that_cannot_be_judged_makes_the_figure_none():
    """
    Where the base gets nothing of an edit right, the other edits do not speak for it.
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
    Ten of ten are no proof of all; equal groups together tell as much as one of their size.
    """
    assert _interval(groups) == pytest.approx((low, high), abs=1e-4)


def test_a_small_group_widens_the_interval():
    """
    Groups weigh alike, so that one with few images makes their mean uncertain.
    """
    even, odd = _interval([[True] * 8] * 2), _interval([[True] * 15, [True]])

    assert odd[0] < even[0]


def test_every_known_figure_has_its_interval():
    """
    A figure lies within its interval; one that is None has none.
    """
    judged = Evaluation.of([forget(GONE, KEPT)], [keep(KEPT)], [1000])
    unknown = Evaluation.of([forget(GONE)], [keep(image(before=False))], [1000])

    for name, figure in {**judged.figures, "harmonic_mean": judged.harmonic_mean}.items():
        low, high = judged.intervals[name]
        assert low <= figure <= high
    assert set(unknown.intervals) == {"forgotten", "became"}


def test_nothing_right_is_none_not_zero():
    """
    Without one image that the base gets right a figure is None.
    """
    judged = Evaluation.of([forget(GONE)], [keep(image(before=False))], [1000])

    assert judged.kept is None
    assert Evaluation.of([], [keep(KEPT)], [1000]).forgotten is None


def test_prompts_without_labels_count_by_score_alone():
    """
    A prompt that has no labels has a row with scores, and no part in the figures.
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
    The harmonic mean is 0 where one figure is 0, and None where one is None.
    """
    assert _harmonic_mean((1.0, 1.0, 1.0)) == 1
    assert _harmonic_mean((1.0, 0.5, 0.5)) == pytest.approx(0.6)
    assert _harmonic_mean((1.0, 0.0, 1.0)) == 0
    assert _harmonic_mean((1.0, None, 1.0)) is None


def test_document_has_the_keys_of_the_interface_in_order():
    """
    `loco.evaluation/1` holds these keys, in this order, and survives JSON.
    """
    judged = Evaluation.of([forget(GONE)], [keep(KEPT)], [1000, 1001])

    document = judged.to_json()

    assert list(document) == [
        "schema", "forget", "keep", "forgotten", "became", "kept", "harmonic_mean", "seeds",
        "intervals",
    ]  # fmt: skip
    assert list(document["forget"][0]) == [
        "edit", "prompt", "before", "after", "recognised_before", "recognised_after", "became",
    ]  # fmt: skip
    assert list(document["keep"][0]) == [
        "concept", "prompt", "before", "after", "recognised_before", "recognised_after",
    ]  # fmt: skip
    assert Evaluation.model_validate(json.loads(json.dumps(document))) == judged


def test_a_limit_is_kept_or_named():
    """
    A figure under its limit is named with both numbers; one that is not known is under any.
    """
    judged = Evaluation.of([forget(GONE, KEPT)], [keep(image(before=False))], [1000])

    assert judged.below({"forgotten": 0.5}) == ()
    assert judged.below({"forgotten": 0.9, "kept": 0.0}) == (
        "`forgotten` is 0.500, not 0.9",
        "`kept` is not known, not 0",
    )


def test_reads_limits():
    """
    Limits are written as `name=share`, with commas between them.
    """
    assert parse_limits("forgotten=0.9, kept=1") == {"forgotten": 0.9, "kept": 1.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("forgoten=0.9", "unknown figure `forgoten`"),
        ("", "unknown figure ``"),
        ("kept", "limit `kept` is not a share from 0 to 1"),
        ("kept=2", "limit `kept=2` is not a share from 0 to 1"),
        ("kept=nan", "limit `kept=nan` is not a share from 0 to 1"),
        ("kept=x", "limit `kept=x` is not a share from 0 to 1"),
    ],
)
def test_refuses_limits_that_mean_nothing(text, message):
    """
    A limit that is no share of a known figure is refused by name.
    """
    with pytest.raises(RequestError) as caught:
        parse_limits(text)

    assert caught.value.message == message
