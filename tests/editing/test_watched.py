"""What an edit does to prompts that it is not about, known before it is written."""

import pytest
import torch

from loco_cli.drift import Drift
from loco_cli.editing.preview import EditPreview, WorstRounding
from loco_cli.editing.watched import DriftProbe, mean_drift
from loco_cli.manifest import EditRecord
from loco_cli.protocol.everyday import N_READ, bank, unrelated_prompts

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


def test_the_bank_is_eighty_things_in_four_places():
    """
    Every prompt is there once; a few of them are about different things in different places.
    """
    few = unrelated_prompts(())

    assert len(bank()) == len(set(bank())) == 320
    assert len(few) == len(set(few)) == N_READ
    things = {prompt.split(" on ")[0].split(" in ")[0] for prompt in few}
    assert len(things) == N_READ
    places = [sum(prompt.endswith(end) for prompt in few) for end in ("beach", "street", "snow")]
    assert min(places) >= N_READ // 8


def test_what_an_edit_names_is_not_unrelated():
    """
    No prompt holds a name of the edit, in whole words and whatever their case.
    """
    few = unrelated_prompts(("Cat", "a car", ""), n=400)

    assert not any(" cat " in prompt or "a car " in prompt for prompt in few)
    assert any("carrot" in prompt for prompt in few)
    assert len(few) == 312


def test_the_drift_is_that_of_the_answers():
    """
    A prompt drifts by |ΔW x| / |W x| over its words, one without words by nothing.
    """
    generator = torch.Generator().manual_seed(0)
    weight, left, right = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((6, 5), (6, 2), (2, 5))
    )
    rows = tuple(torch.randn(n, 5, generator=generator) for n in (3, 1, 0))
    watched = DriftProbe(("a", "b", "c"), rows, n_preserved=1)

    drifts = watched.drifts(weight, left @ right)

    wanted = [
        ((one.double() @ (left @ right).T).norm() / (one.double() @ weight.T).norm()).item()
        for one in rows[:2]
    ]
    assert drifts == pytest.approx((*wanted, 0.0))
    drift = mean_drift(watched, [drifts, (1.0, 3.0, 0.5)])
    assert drift.preserved == pytest.approx((wanted[0] + 1.0) / 2)
    assert (drift.worst, drift.worst_drift) == ("b", pytest.approx((wanted[1] + 3.0) / 2))
    assert drift.unrelated == pytest.approx((drift.worst_drift + 0.25) / 2)


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
    seen = EditPreview((EDIT,), drift, WorstRounding("a:w", "F16", lost))

    words, warnings = seen.in_words(), seen.warnings()

    assert words[0].endswith("layers 8 and 9: 4 keys, ridge 0.5, residual 12%")
    assert words[1].startswith(f"unrelated ones by {unrelated:.1%}")
    assert len(warnings) == len(said)
    assert all(part in warning for part, warning in zip(said, warnings, strict=True))
