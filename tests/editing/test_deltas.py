"""Changes of tensors: shortened factors and the drift of prompts."""

from dataclasses import replace

import pytest
import torch

from loco_cli.checkpoint.layout import open_checkpoint
from loco_cli.editing.deltas import DriftProbe, read_change, shorten
from loco_cli.editing.ridge import solve_keys
from loco_cli.errors import EditError
from loco_cli.recipe.values import Ridge
from tests.checkpoints import K, sd1_weights, write_folder


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    ("left", "right", "rank"),
    [
        (random(12, 3), random(3, 9, seed=1), 3),
        (random(12, 40), random(40, 9, seed=1), 9),
        (random(4, 40), random(40, 9, seed=1), 4),
        (random(12, 3) @ random(3, 40, seed=2), random(40, 9, seed=1), 3),
        (random(12, 5), random(5, 2, seed=1) @ random(2, 9, seed=2), 2),
        (torch.zeros(12, 3).double(), random(3, 9), 0),
    ],
    ids=["few keys", "many keys", "narrow", "keys that repeat", "targets that repeat", "nothing"],
)
def test_shortened_factors_have_the_rank_of_their_product(left, right, rank):
    """Shortening keeps the product and reduces the factors to its rank."""
    shorter, again = shorten(left, right)

    assert shorter.shape == (len(left), rank)
    assert again.shape == (rank, right.shape[1])
    torch.testing.assert_close(shorter @ again, left @ right, rtol=0, atol=1e-12)


def test_only_parts_below_float32_precision_are_dropped():
    """Shortening drops parts below the precision of float32 and keeps larger ones."""
    basis, other = torch.linalg.qr(random(12, 12))[0], torch.linalg.qr(random(12, 12, seed=1))[0]
    sizes = torch.tensor([1.0, 1e-3, 1e-6, 1e-9, 1e-12], dtype=torch.float64)
    left, right = basis[:, :5] * sizes, other[:5]

    shorter, again = shorten(left, right)

    assert shorter.shape[1] == 3
    lost = (shorter @ again - left @ right).norm() / (left @ right).norm()
    assert lost < 2.0**-25


def test_shortened_factors_are_orthogonal_and_balanced():
    """Both factors are orthogonal with equal norms, sorted in descending order."""
    left, right = shorten(random(12, 40), random(40, 9, seed=1))

    lengths = left.norm(dim=0)
    torch.testing.assert_close(lengths, right.norm(dim=1))
    assert torch.equal(lengths, lengths.sort(descending=True).values)
    torch.testing.assert_close(left.T @ left, torch.diag(lengths.square()), rtol=0, atol=1e-12)


def test_factors_that_cancel_survive_float32():
    """Nearly parallel keys give factors that cancel; shortened ones lose nothing in float32."""
    keys = 10 * random(1, 64) + 1e-3 * random(48, 64, seed=1)
    target = 10 * random(1, 64, seed=2)
    solution = solve_keys(keys, target.expand(48, 64), keys[:0], None, Ridge(1e-9))
    left, right = solution.change(random(32, 64, seed=3))
    change = left @ right

    def lost(a, b):
        stored = a.float().double() @ b.float().double()
        return ((stored - change).norm() / change.norm()).item()

    assert lost(left, right) > 1e-4
    assert lost(*shorten(left, right)) < 1e-7


def test_the_drift_is_the_relative_change_of_outputs():
    """The drift of a prompt is |ΔW x| / |W x| over its words, and 0 without words."""
    weight, change = random(6, 5), random(6, 2, seed=1) @ random(2, 5, seed=2)
    rows = tuple(random(n, 5, seed=n) for n in (3, 1, 0))
    probe = DriftProbe(("a", "b", "c"), rows, n_preserved=1)

    drifts = probe.drifts(weight, change)

    expected = [((words @ change.T).norm() / (words @ weight.T).norm()).item() for words in rows]
    assert drifts == pytest.approx((*expected[:2], 0.0))
    drift = probe.mean([drifts, (1.0, 3.0, 0.5)])
    assert drift.preserved == pytest.approx((expected[0] + 1.0) / 2)
    assert (drift.worst, drift.worst_drift) == ("b", pytest.approx((expected[1] + 3.0) / 2))
    assert drift.unrelated == pytest.approx((drift.worst_drift + 0.25) / 2)


def test_an_unusable_weight_is_refused(tmp_path, golden):
    """A change needs a finite weight with as many inputs as the text encoder has outputs."""
    weights = [
        replace(one, value=one.value * (float("nan") if one.name == K else 1))
        for one in sd1_weights()
    ]
    (slot,) = open_checkpoint(write_folder(tmp_path / "base", weights)).slots("unet", K)
    for d_in in (7, 12):
        keys = random(1, d_in)
        with golden.raises(EditError, f"`{slot.key}`"):
            read_change(slot, solve_keys(keys, keys + 1, keys[:0], None, Ridge(0.1)))
