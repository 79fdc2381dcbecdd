"""Prompts of the layers in a run."""

from loco_cli.interventions import Run, SwapPrompt

SOURCE, TARGET = "a cat by monet", "a cat"


def test_a_swap_applies_to_its_layers():
    """
    Swapped layers read the target; the pooled embedding does if requested and any layer is swapped.
    """
    for swap, at_8, at_9, pooled in (
        (None, SOURCE, SOURCE, SOURCE),
        (SwapPrompt((8,), TARGET), TARGET, SOURCE, SOURCE),
        (SwapPrompt((8,), TARGET, with_pooled=True), TARGET, SOURCE, TARGET),
        (SwapPrompt((), TARGET, with_pooled=True), SOURCE, SOURCE, SOURCE),
    ):
        run = Run(SOURCE, 0, swap)
        assert (run.prompt_at(8), run.prompt_at(9), run.pooled_prompt) == (at_8, at_9, pooled), swap
