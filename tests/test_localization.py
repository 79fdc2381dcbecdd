"""Localizations: scores, effects, and the document `loco.localization/1`."""

import json
import math

import pytest
from pydantic import ValidationError

from loco_cli.localization import (
    Localization,
    Localizations,
    WindowScore,
    best_score,
    better_direction,
    effect,
    min_accepted_effect,
)


def window(layers, score, **kwargs):
    return WindowScore.of(layers, [score], original=0.3, target=0.1, **kwargs)


def localization(scores, better="lower", **kwargs):
    best = scores[0]
    return Localization(
        model={"name": "tiny", "family": "sd1"},
        concept={"kind": "style", "subject": "van gogh", "to": "painting"},
        method="locogen",
        search="exhaustive",
        width=2,
        layer_range=best.layer_range,
        effect=best.effect,
        better=better,
        layers=[{"layer": layer, "module_path": f"layer.{layer}"} for layer in best.layer_set],
        scores=scores,
        original_score=0.3,
        target_score=0.1,
        prompts=[{"source": "a house by van gogh", "target": "a painting"}],
        seeds=[0, 1],
        steps=20,
        guidance=7.5,
        scorer="tiny",
        unet_evaluations=80,
        seconds=1.5,
        **kwargs,
    )


def test_effect_is_a_share_of_the_full_swap():
    """
    The effect is 0 at the original score and 1 at the target score, in both directions.
    """
    assert effect(0.3, original=0.3, target=0.1) == 0
    assert effect(0.1, original=0.3, target=0.1) == 1
    assert effect(0.2, original=0.3, target=0.1) == pytest.approx(0.5)
    assert effect(0.2, original=0.1, target=0.3) == pytest.approx(0.5)


def test_without_a_full_swap_effect_there_is_no_share():
    """
    If the full swap changes nothing, the effect is None.
    """
    assert effect(0.2, original=0.3, target=0.3) is None


def test_a_score_has_its_standard_error():
    """
    A score has the mean, sample deviation and standard error of its images; one image has no error.
    """
    many = WindowScore.of([8, 9], [0.1, 0.2, 0.3], original=0.3, target=0.1)
    one = WindowScore.of([8, 9], [0.2], original=0.3, target=0.1)

    assert many.score == pytest.approx(0.2)
    assert many.std == pytest.approx(0.1)
    assert many.stderr == pytest.approx(0.1 / math.sqrt(3))
    assert many.n == 3
    assert (one.std, one.stderr) == (0, 0)


def test_layers_that_are_not_contiguous_are_listed():
    """
    The score of contiguous layers has a range, and the score of other layers a list.
    """
    contiguous, apart = window([9, 8], 0.2).to_json(), window([10, 1], 0.2).to_json()

    assert contiguous["layer_range"] == [8, 10]
    assert "layers" not in contiguous
    assert apart["layers"] == [1, 10]
    assert "layer_range" not in apart


def test_the_best_score_depends_on_the_direction():
    """
    Lower is better for a style or an object, higher for a fact; the first of equal scores is best.
    """
    scores = [window([0, 1], 0.2), window([1, 2], 0.1), window([2, 3], 0.3), window([3, 4], 0.1)]

    assert best_score(scores, "lower").layer_range == (1, 3)
    assert best_score(scores, "higher").layer_range == (2, 4)
    assert [s.score for s in localization(scores, "lower").ranked()] == [0.1, 0.1, 0.2, 0.3]
    assert (better_direction("style"), better_direction("fact")) == ("lower", "higher")


def test_accepts_layers_with_the_required_effect():
    """
    Layers are accepted if their effect reaches the required one, and never without an effect.
    """
    weak = localization([window([8, 9], 0.25)])
    unknown = weak.model_copy(update={"effect": None})

    assert weak.is_accepted(0.2)
    assert not weak.is_accepted(0.9)
    assert not unknown.is_accepted(0.0)


def test_the_accepted_effect_depends_on_the_scale_error():
    """
    The accepted effect may be two standard errors of the scale lower, but at most a quarter.
    """
    assert min_accepted_effect(0.9, None) == min_accepted_effect(0.9, 0.0) == 0.9
    assert min_accepted_effect(0.9, 0.1) == pytest.approx(0.75)
    assert min_accepted_effect(0.9, 2.0) == pytest.approx(0.675)


def test_pooled_swapped_is_optional():
    """
    Only the document of a model with a pooled embedding has the key.
    """
    kept = localization([window([8, 9], 0.1)], pooled_swapped=False)

    assert kept.to_json()["pooled_swapped"] is False
    assert Localization.model_validate(kept.to_json()) == kept


def test_survives_json():
    """
    A record written as JSON and read again is equal, alone or in a list.
    """
    one = localization([window([1, 10], 0.1), window([8, 9], 0.2)])
    both = Localizations(localizations=[one, one])

    assert Localization.model_validate(json.loads(json.dumps(one.to_json()))) == one
    assert Localizations.model_validate(json.loads(json.dumps(both.to_json()))) == both
    assert list(both.to_json()) == ["schema", "localizations"]


def test_refuses_other_documents():
    """
    A document with another schema, an unknown key or a wrong type is refused.
    """
    document = localization([window([8, 9], 0.1)]).to_json()

    for change in ({"extra": 1}, {"schema": "loco.localization/2"}, {"effect": "x"}):
        with pytest.raises(ValidationError):
            Localization.model_validate(document | change)


def test_refuses_nan():
    """
    NaN is refused, because JSON cannot represent it.
    """
    with pytest.raises(ValidationError):
        WindowScore.of([8, 9], [math.nan], original=0.3, target=0.1)
