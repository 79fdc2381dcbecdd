"""What an edit does to prompts that it is not about, known before it is written."""

import pytest
import torch

from loco_cli.editing.watched import DriftProbe, mean_drift


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
