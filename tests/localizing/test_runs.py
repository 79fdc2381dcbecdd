"""The runs of a search: their order, and the pictures to show."""

from collections import Counter
from types import SimpleNamespace

from loco_cli.layers import LayerSet
from loco_cli.localizing.runs import RunRecorder
from loco_cli.recipe.load import recipe_from_text
from loco_cli.recipe.record import LocalizeSettings


def runs_of(n_prompts, n_seeds):
    sources = tuple(f"picture {i} of {{subject}}" for i in range(n_prompts))
    entry = recipe_from_text("a cat object", to="a dog", sources=sources).edits[0]
    spec = SimpleNamespace(n_layers=16, unreachable=())
    bench = SimpleNamespace(located=SimpleNamespace(spec=spec))
    return RunRecorder.of(bench, entry, LocalizeSettings(seeds=n_seeds))


def test_early_runs_differ_in_prompt_and_seed():
    """Every prompt meets every seed once, and each round spreads over prompts and seeds."""
    for n_prompts, n_seeds in ((4, 4), (4, 8), (3, 4), (4, 1), (1, 4), (5, 3)):
        order = runs_of(n_prompts, n_seeds).order

        assert len(order) == len(set(order)) == n_prompts * n_seeds
        for i in range(n_seeds):
            pairs = {pair for pair, _ in order[i * n_prompts : (i + 1) * n_prompts]}
            assert len(pairs) == n_prompts
        assert len({seed for _, seed in order[:n_prompts]}) == min(n_prompts, n_seeds)
        assert set(Counter(seed for _, seed in order).values()) == {n_prompts}


def test_equal_targets_share_the_full_swap():
    """Runs with the same seed and target prompt have the same full-swap picture."""
    runs = runs_of(2, 2)
    same = [pair.__class__(pair.source, "a dog", pair.subject) for pair in runs.pairs]

    assert runs.full_swap_ids() == [0, 1, 2, 3]
    assert RunRecorder(runs.context, runs.concept, same, runs.settings).full_swap_ids() == [
        0,
        1,
        1,
        0,
    ]


def test_the_first_run_of_every_prompt_is_shown():
    """A report has one picture per prompt, with different seeds where possible."""
    runs = runs_of(2, 2)

    trials = runs.trials([LayerSet((3,))], runs.order)
    shown = [(i, runs.is_shown(trial.run)) for i, trial in enumerate(trials)]

    assert shown == [(0, True), (1, True), (2, False), (3, False)]
