"""What a localization takes: the paper's loop beside ours, and the counts of searches."""

import pytest
import torch

from loco_cli.concept import PromptPair
from loco_cli.interventions import Run, SwapPrompt
from loco_cli.localizing import fast
from loco_cli.localizing.runs import widths_of
from loco_cli.recipe.record import LocalizeSettings
from loco_cli.sampling.sample import sample_batch
from tests.benchmarks import growth, reference, search
from tests.benchmarks.search import Sought

PAIR = PromptPair("a photo of a cat", "a photo of a dog", subject="a cat")


def test_the_papers_loop_draws_what_ours_draws(pipeline):
    """
    One picture at a time, with a hook of its own, it is the same intervention.
    """
    window, seed = (4, 5), 3
    paths = [pipeline.spec.module_paths[layer] for layer in window]

    plain = reference.picture(pipeline, paths, PAIR, seed, steps=2)

    run = Run(PAIR.source, seed, SwapPrompt(window, PAIR.target))
    (ours,) = sample_batch(pipeline, [run], steps=2, guidance=pipeline.spec.guidance)
    (untouched,) = sample_batch(
        pipeline, [Run(PAIR.source, seed)], steps=2, guidance=pipeline.spec.guidance
    )
    assert torch.allclose(plain, ours, atol=1e-4)
    assert not torch.allclose(plain, untouched, atol=1e-2)


def test_the_loop_chooses_as_the_paper_does():
    """
    The lowest score, and for a fact, which is held against its target, the highest.
    """
    scores = {(0, 1): 0.5, (1, 2): 0.2, (2, 3): 0.9}

    assert reference.chosen(scores, "style") == (1, 2)
    assert reference.chosen(scores, "fact") == (2, 3)


def row(way, **more):
    fields = {"evaluations": 9600, "n_run": 80, "seconds": 200.0, "layers": None, **more}
    return Sought(model="tiny", way=way, kind="style", subject="monet", n_seeds=4, **fields)


def test_the_table_says_what_was_not_run(tmp_path):
    """
    A loop that was only timed names no window; rows come back from their file as they were.
    """
    loop, quick = row("the paper's loop"), row("fast", layers=(9,), evaluations=1200)
    for one in (loop, quick):
        search.append_row(tmp_path / "rows.jsonl", one)

    rows = search.read_rows([tmp_path / "rows.jsonl", tmp_path / "none.jsonl"])

    assert rows == [loop, quick]
    assert (loop.is_right, quick.is_right, row("fast", layers=(3,)).is_right) == (None, True, False)
    said = search.table(rows)
    assert "| monet | style | the paper's loop | 9600 | 200.0 | not run | – |" in said
    assert "| mean of 1 | all | fast | 1200 | 200.0 |  | 1 of 1 |" in said


@pytest.mark.parametrize("by_lot", [False, True])
def test_seventy_layers_cost_a_twentieth(by_lot):
    """
    What is planted is found, even where the ranking says nothing, and the price hardly grows.
    """
    few, many = (growth.counts(n, by_lot=by_lot, n_places=2) for n in (16, 70))

    assert all(one.is_right for one in (*few, *many))
    assert sum(one.exhaustive for one in many) >= 20 * sum(one.fast for one in many)
    assert sum(one.fast for one in many) < 2 * sum(one.fast for one in few)


def made_up(n_layers, n_prompts, weights, **settings):
    concept, pairs = growth.ENTRY.concept, growth.ENTRY.localize_pairs[:n_prompts]
    bench = growth.bench_of(n_layers)
    return growth.MadeUp(bench, concept, pairs, LocalizeSettings(**settings), weights=weights)


@pytest.mark.parametrize(("effect", "n_least"), [(0.9, 1), (0.2, 2)])
def test_where_no_range_does_much_two_prompts_are_asked(effect, n_least):
    """
    Every pair of layers is tried where the ranking misled, and twice where none does half of it.
    """
    runs = made_up(16, 4, {3: effect}, width=2)

    best = growth.hunt(runs, [layer / 16 for layer in range(16)])

    tried = {layers: len(scores) for layers, scores in runs.board.values.items()}
    assert 3 in best.layers
    assert min(tried[i, i + 1] for i in range(15)) == n_least


@pytest.mark.parametrize(
    "weights",
    [{}, dict.fromkeys(range(128), 1 / 4), {20: 0.5, 100: 0.5}],
    ids=["nothing", "any two layers do half", "two that lie apart"],
)
@pytest.mark.parametrize(("n_prompts", "seeds"), [(1, 1), (4, 1), (4, 2)])
@pytest.mark.parametrize("width", [1, 2, "auto"])
@pytest.mark.parametrize("n_layers", [32, 70, 128])
def test_no_search_costs_more_than_is_said(n_layers, width, n_prompts, seeds, weights):
    """
    Where no range stands out, and there are few runs to share the looks, the price still holds.
    """
    runs = made_up(n_layers, n_prompts, weights, width=width, seeds=seeds)

    growth.hunt(runs, [layer / n_layers for layer in range(n_layers)])

    n_ranked = n_prompts * fast.N_UNET_CALLS_PER_STEP * fast.N_REPLAYED_STEPS
    n_pictures = fast.max_images(n_layers, widths_of(width), n_prompts * seeds)
    assert runs.n_unet_evaluations - n_ranked <= n_pictures * runs.n_evaluations_per_picture
