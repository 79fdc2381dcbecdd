"""The cost of a localization: the paper's loop, ours, and the counts of searches."""

from itertools import product

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


def test_the_papers_loop_draws_the_same_pictures(pipeline):
    """
    The paper's loop, with its own hook and batches of one, makes the same intervention.
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
    The loop chooses the lowest score, or for a fact, scored against its target, the highest.
    """
    scores = {(0, 1): 0.5, (1, 2): 0.2, (2, 3): 0.9}

    assert reference.chosen(scores, "style") == (1, 2)
    assert reference.chosen(scores, "fact") == (2, 3)


def row(way, **more):
    fields = {"evaluations": 9600, "n_run": 80, "seconds": 200.0, "layers": None, **more}
    return Sought(model="tiny", way=way, kind="style", subject="monet", n_seeds=4, **fields)


def test_the_table_marks_loops_that_were_only_timed(tmp_path):
    """
    A timed loop has no window, and rows survive being written and read.
    """
    loop, quick = row("the paper's loop"), row("fast", layers=(9,), evaluations=1200)
    for one in (loop, quick):
        search.append_row(tmp_path / "rows.jsonl", one)

    rows = search.read_rows([tmp_path / "rows.jsonl", tmp_path / "none.jsonl"])

    assert rows == [loop, quick]
    assert (loop.is_right, quick.is_right, row("fast", layers=(3,)).is_right) == (None, True, False)
    text = search.table(rows)
    assert "| monet | style | the paper's loop | 9600 | 200.0 | not run | – |" in text
    assert "| mean of 1 | all | fast | 1200 | 200.0 |  | 1 of 1 |" in text


@pytest.mark.parametrize("by_lot", [False, True])
def test_seventy_layers_cost_a_twentieth(by_lot):
    """
    The search finds the planted range even with a random ranking, and its cost barely grows.
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
def test_weak_ranges_run_on_two_prompts(effect, n_least):
    """
    With a wrong ranking every pair of layers is tried, and twice if none has half of the effect.
    """
    runs = made_up(16, 4, {3: effect}, width=2)

    best = growth.hunt(runs, [layer / 16 for layer in range(16)])

    tried = {layers: len(scores) for layers, scores in runs.board.values.items()}
    assert 3 in best.layers
    assert min(tried[i, i + 1] for i in range(15)) == n_least


@pytest.mark.parametrize("n_layers", [32, 70, 128])
def test_no_search_exceeds_its_budget(n_layers):
    """
    The budget holds if no range stands out, and for any number of prompts, seeds and widths.
    """
    nothing, any_pair, distant_pair = {}, dict.fromkeys(range(128), 1 / 4), {20: 0.5, 100: 0.5}
    sizes = [(1, 1), (4, 1), (4, 2)]  # prompts, seeds

    for weights, width, (n_prompts, seeds) in product(
        (nothing, any_pair, distant_pair), (1, 2, "auto"), sizes
    ):
        runs = made_up(n_layers, n_prompts, weights, width=width, seeds=seeds)
        growth.hunt(runs, [layer / n_layers for layer in range(n_layers)])

        n_ranked = n_prompts * fast.N_UNET_CALLS_PER_STEP * fast.N_REPLAYED_STEPS
        n_pictures = fast.max_images(n_layers, widths_of(width), n_prompts * seeds)
        budget = n_pictures * runs.n_evaluations_per_picture
        assert runs.n_unet_evaluations - n_ranked <= budget, (weights, width, n_prompts, seeds)
