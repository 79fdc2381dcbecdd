"""What a run reads where."""

import pytest

from loco_cli.interventions import Run, SwapPrompt

SOURCE, TARGET = "a cat by monet", "a cat"


@pytest.mark.parametrize(
    ("swap", "at_8", "at_9", "pooled"),
    [
        (None, SOURCE, SOURCE, SOURCE),
        (SwapPrompt((8,), TARGET), TARGET, SOURCE, SOURCE),
        (SwapPrompt((8,), TARGET, with_pooled=True), TARGET, SOURCE, TARGET),
        (SwapPrompt((), TARGET, with_pooled=True), SOURCE, SOURCE, SOURCE),
    ],
)
def test_a_swap_is_of_its_layers(swap, at_8, at_9, pooled):
    """
    Named layers read the target, and what is pooled only where that is asked for and some layer is.
    """
    run = Run(SOURCE, 0, swap)

    assert (run.prompt_at(8), run.prompt_at(9), run.pooled_prompt) == (at_8, at_9, pooled)
