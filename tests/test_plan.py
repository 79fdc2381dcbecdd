"""Plans: the cost of pictures."""

from loco_cli.plan import PlannedRuns


def test_guidance_doubles_the_cost():
    """
    A step with guidance above 1 takes two samples, and any other step takes one.
    """
    assert PlannedRuns.of(3, (20, 7.5)).unet_evaluations == 120
    assert PlannedRuns.of(3, (20, 1.0)).unet_evaluations == 60
    assert PlannedRuns.of(3, (20, 0.0)).n_pictures == 3
