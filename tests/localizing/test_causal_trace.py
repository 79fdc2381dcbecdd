"""The plan of causal tracing: states, token spans and batches."""

import pytest

from loco_cli.interventions import Corrupt, Restore, TracedRun
from loco_cli.localizing.causal_trace import (
    _batches_of,
    _plan_trials,
    _score_states,
)
from loco_cli.localizing.states import State, TracedPrompt, _token_spans

ATTENTION = State("text_encoder", "layers.0.self_attn", "self-attention", 0)
RESNET = State("unet", "mid_block.resnets.0", "resnet", 0)
PLACES = _token_spans((4, 5), start=1, end=7, limit=10)
PROMPT = TracedPrompt("a cat by van gogh too", (4, 5), PLACES, is_causal=True)


def test_every_position_is_in_one_span():
    """Token spans partition the positions in order; a lone subject token is the last one."""
    words = "start,subject-2,subject-1,first subject,subject 2,last subject,subject+1,end,padding"
    cases = {
        ((3, 4, 5), 1, 7): words,
        ((2,), 1, 3): "start,subject-1,last subject,end,padding",
        ((0, 1), 0, 2): "first subject,last subject,end,padding",
        ((1,), 1, 9): "start,last subject,"
        + ",".join(f"subject+{i}" for i in range(1, 8))
        + ",end",
    }

    for (subject, start, end), labels in cases.items():
        spans = _token_spans(subject, start, end, limit=10)

        assert [span.label for span in spans] == labels.split(",")
        assert [i for span in spans for i in span.positions] == list(range(10))
        assert sorted(spans, key=lambda span: span.rank) == list(spans)


def test_each_seed_has_clean_and_corrupted_runs():
    """A prompt and seed has a clean run, a corrupted run, and each state in each span."""
    trials = _plan_trials([PROMPT], (0, 1), (ATTENTION,), level=3.0)

    assert len(trials) == 2 * (2 + len(PLACES))
    clean = [one.run for one in trials if one.run.corrupt is None]
    assert clean == [TracedRun(PROMPT.text, seed) for seed in (0, 1)]
    noises = [Corrupt((4, 5), 3.0, seed) for seed in (0, 1)]
    corrupted = [one.run for one in trials if one.state is None and one.run.corrupt]
    assert [run.corrupt for run in corrupted] == noises


def test_unreachable_states_share_the_corrupted_run():
    """In a causal encoder, tokens before the subject share the corrupted run."""
    trials = _plan_trials([PROMPT], (0,), (ATTENTION,), level=3.0)
    before = [one.run for one in trials if one.span and one.span.positions[0] < 4]

    assert set(before) == {trials[1].run}
    assert len({one.run for one in trials}) == len(trials) - len(before)


@pytest.mark.parametrize(("size", "drawn"), [(1, [1, 1, 2, 2, 2]), (3, [3, 3]), (9, [5])])
def test_batches_of_unet_states_include_the_clean_run(size, drawn):
    """Each batch that restores a state of the UNet draws the clean run too."""
    states = [State("unet", f"m{i}", "resnet", i) for i in range(3)]
    trials = _plan_trials([PROMPT], (0,), states, level=3.0)

    batches = list(_batches_of(trials, size))

    assert [len(batch.drawn) for batch in batches] == drawn
    assert [run for batch in batches for run in batch.runs] == [one.run for one in trials]
    assert all(batch.encoded[0] == trials[0].run for batch in batches)


def test_batches_of_encoder_states_need_no_clean_run():
    """Each run is drawn once, and no batch mixes seeds."""
    trials = _plan_trials([PROMPT], (0, 1), (ATTENTION,), level=3.0)

    batches = list(_batches_of(trials, 4))

    assert sum(len(batch.drawn) for batch in batches) == len({one.run for one in trials})
    assert all(len({run.seed for run in batch.drawn}) == 1 for batch in batches)


def test_indirect_effects_are_paired():
    """An indirect effect is the paired difference of restored and corrupted, with its error."""
    trials = _plan_trials([PROMPT], (0, 1), (RESNET,), level=3.0)
    values = [0.9, 0.1, 0.4, 0.9, 0.3, 0.6]  # clean, corrupted, restored; for each of two seeds

    (score,) = _score_states(
        trials, {one.run: value for one, value in zip(trials, values, strict=True)}
    )

    assert trials[2].run.restore == (Restore("unet", RESNET.module_path),)
    assert (score.score, score.indirect_effect) == pytest.approx((0.5, 0.3))
    assert score.indirect_effect_stderr == pytest.approx(0.0)
    assert score.stderr == pytest.approx(0.1)
    assert (score.token, score.n) == (None, 2)
