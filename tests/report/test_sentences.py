"""The sentences about plans, edits and evaluations."""

import pytest

from loco_cli.events import EditPreview
from loco_cli.manifest import Drift, TensorEdit
from loco_cli.report.sentences import (
    join_words,
    layer_span,
    layer_words,
    percent,
    preview_sentences,
    preview_warnings,
    range_words,
    strength_warnings,
    strength_words,
)
from tests.report.manifests import edit_record, strength_of


def test_layers_have_three_short_forms(golden):
    """Neighbouring layers form a run, and a range is half-open in recipe syntax only."""
    for layers in ((), (8,), (8, 9), (8, 9, 10), (1, 9), (1, 2, 3, 10)):
        golden(f"{layer_span(layers)} | {layer_words(layers)} | {range_words(layers)}")


def test_a_share_is_a_percentage_and_an_unknown_one_a_dash():
    """A percentage has at most one decimal and a real minus sign."""
    assert [percent(share) for share in (0.975, 1.0, -0.5, None)] == ["97.5%", "100%", "−50%", "–"]
    assert [join_words(words) for words in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]


@pytest.mark.parametrize(
    ("drift", "rounding_error", "n_warnings"), [(0.1, 0.01, 0), (0.9, 0.01, 1), (0.1, 0.5, 1)]
)
def test_a_preview_warns_of_drift_and_rounding(drift, rounding_error, n_warnings, golden):
    """
    A preview has a sentence per edit and one on drift; large drift or rounding gives a warning.
    """
    preview = EditPreview(
        (edit_record(ridge=0.5, n_keys=4, residual=0.125),),
        Drift.of([], [("a photo of a fork", drift)]),
        None,
        TensorEdit("a", "w", "F16", 1, 0.1, rounding_error),
    )

    warnings = preview_warnings(preview)

    assert len(warnings) == n_warnings
    golden("\n".join((*preview_sentences(preview), *warnings)))


@pytest.mark.parametrize(
    ("forgotten", "n_warnings"), [(1.0, 0), (0.9, 1), (None, 1)], ids=["enough", "weak", "unknown"]
)
def test_a_weak_strength_gives_a_warning(forgotten, n_warnings, golden):
    """A strength is reported with its shares, and warned of if it is too weak or unknown."""
    strength = strength_of(*[(forgotten, 1.0, 1.0)] if forgotten else [])

    warnings = strength_warnings(strength)

    assert len(warnings) == n_warnings
    assert strength_warnings(None) == ()
    golden("\n".join((strength_words(strength), *warnings)))
