"""What a result is said to be, in sentences."""

import pytest

from loco_cli.events import EditPreview
from loco_cli.manifest import Drift, EditRecord, TensorEdit
from loco_cli.report.sentences import preview_sentences, preview_warnings

EDIT = EditRecord(
    kind="style",
    subject="monet",
    to="painting",
    method="locoedit",
    layer_range=(8, 10),
    ridge=0.5,
    tokens="all",
    n_keys=4,
    residual=0.125,
)


@pytest.mark.parametrize(
    ("unrelated", "lost", "said"),
    [
        (0.1, 0.01, ()),
        (0.9, 0.01, ("unrelated prompts drift by 90%",)),
        (0.1, 0.5, ("rounding to F16 loses 50% of the change of `a:w`",)),
    ],
)
def test_what_is_foreseen(unrelated, lost, said):
    """
    Residual and drift are told of every edit; a warning where it is too strong, or too weak to
    outlast rounding.
    """
    drift = Drift.of([], [("a photo of a fork", unrelated)])
    seen = EditPreview((EDIT,), drift, None, TensorEdit("a", "w", "F16", 1, 0.1, lost))

    words, warnings = preview_sentences(seen), preview_warnings(seen)

    assert words[0].endswith("layers 8 and 9: 4 keys, ridge 0.5, residual 12%")
    assert words[1].startswith(f"unrelated ones by {unrelated:.1%}")
    assert len(warnings) == len(said)
    assert all(part in warning for part, warning in zip(said, warnings, strict=True))
