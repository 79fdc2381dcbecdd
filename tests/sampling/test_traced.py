"""Traced runs: noise on the subject, and restored states of the clean run."""

from dataclasses import replace

import pytest
import torch

from loco_cli.interventions import Corrupt, Restore, TracedBatch, TracedRun
from loco_cli.sampling.traced import _encode_traced, sample_traced

PROMPT, SUBJECT = "a painting in the style of van gogh", (7, 8)
CLEAN = TracedRun(PROMPT, seed=3)
NOISY = replace(CLEAN, corrupt=Corrupt(SUBJECT, level=10.0, seed=3))
SETTINGS = {"steps": 2, "guidance": 3.0}
BLOCKS = "text_model.encoder.layers"
NOTHING = Restore("unet", "conv_norm_out", positions=())  # no positions, so nothing is restored


def sample(pipeline, *runs, **settings):
    return sample_traced(pipeline, TracedBatch(CLEAN, runs), **{**SETTINGS, **settings})


def states(pipeline, *runs):
    return _encode_traced(pipeline, (CLEAN, *runs))["prompt_embeds"]


def restoring(*paths, component="text_encoder", positions=None):
    return replace(NOISY, restore=tuple(Restore(component, path, positions) for path in paths))


def hooks_of(pipeline):
    parts = (pipeline.pipe.unet, pipeline.pipe.text_encoder)
    return [m for part in parts for m in part.modules() if m._forward_hooks]


def test_no_noise_changes_nothing(pipeline):
    """Noise of level 0 gives the clean picture, bit for bit."""
    silent = replace(CLEAN, corrupt=Corrupt(SUBJECT, level=0.0, seed=3))

    clean, corrupted = sample(pipeline, CLEAN, silent)

    assert torch.equal(corrupted, clean)


def test_noise_reaches_the_subject_and_what_follows(pipeline):
    """Noise depends on the seed, grows with its level, and affects no earlier token."""
    more = replace(NOISY, corrupt=Corrupt(SUBJECT, level=20.0, seed=3))
    other = replace(NOISY, corrupt=Corrupt(SUBJECT, level=10.0, seed=4))

    clean, noisy, again, louder, another = states(pipeline, NOISY, NOISY, more, other)

    assert torch.equal(noisy[:7], clean[:7])
    assert (noisy[7:] - clean[7:]).norm(dim=1).min() > 0.1
    assert torch.equal(noisy, again)
    assert not torch.equal(noisy, another)
    assert (louder[8] - clean[8]).norm() > (noisy[8] - clean[8]).norm()


def test_the_last_block_restored_whole_is_the_clean_run(pipeline):
    """Restoring all positions of the last block removes the effect of the noise."""
    clean, restored, half = states(
        pipeline,
        restoring(f"{BLOCKS}.3"),
        restoring(f"{BLOCKS}.3", positions=(8,)),
    )

    assert torch.equal(restored, clean)
    assert torch.equal(half[8], clean[8])
    assert not torch.equal(half[9], clean[9])


def test_one_restored_state_is_between(pipeline):
    """Restoring one state moves later states towards the clean ones, and no earlier state."""
    place = restoring(f"{BLOCKS}.0.self_attn", positions=(8,))

    clean, noisy, restored = states(pipeline, NOISY, place)

    assert torch.equal(restored[:8], noisy[:8])
    assert not torch.equal(restored[8:], noisy[8:])
    assert not torch.equal(restored[8:], clean[8:])


def test_the_unet_s_last_output_restored_is_the_clean_run(pipeline):
    """Restoring the output of the UNet at every step gives the clean picture."""
    clean, noisy, restored = sample(pipeline, CLEAN, NOISY, restoring("conv_out", component="unet"))

    torch.testing.assert_close(restored, clean, atol=1e-4, rtol=0)
    assert (noisy - clean).abs().max() > 0.01


def test_restoring_nothing_is_the_corrupted_run(pipeline):
    """Restoring a state before the subject does not change the corrupted picture."""
    before = restoring(f"{BLOCKS}.1.mlp", positions=(0, 1, 2))

    noisy, restored = sample(pipeline, NOISY, before)

    torch.testing.assert_close(restored, noisy, atol=1e-4, rtol=0)


def test_a_batch_equals_one_by_one(pipeline):
    """Runs in one batch give the same pictures as single runs."""
    runs = (
        CLEAN,
        NOISY,
        restoring(f"{BLOCKS}.0.mlp", positions=(8,)),
        restoring("mid_block.resnets.0", component="unet"),
        restoring("up_blocks.1.attentions.0.transformer_blocks.0.attn2", component="unet"),
    )

    together = sample(pipeline, *runs)
    alone = torch.cat([sample(pipeline, run) for run in runs])

    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_only_the_conditional_half_is_restored(pipeline, guidance):
    """Restoring changes neither the unconditional half nor other runs."""
    answers = []
    for paths in ((), ("mid_block.attentions.0.transformer_blocks.0.attn2",)):
        third = restoring(*paths, component="unet") if paths else replace(NOISY, restore=(NOTHING,))
        with pipeline.pipe.unet.register_forward_hook(lambda _, args, out: answers.append(out[0])):
            sample(pipeline, CLEAN, NOISY, third, steps=1, guidance=guidance)

    plain, restored = answers
    first = 3 if guidance > 1 else 0
    assert len(plain) == first + 3
    assert [row for row in range(len(plain)) if not torch.equal(plain[row], restored[row])] == [
        first + 2
    ]


def test_no_hook_remains(pipeline):
    """Neither a finished nor a failed run leaves a hook behind."""
    sample(pipeline, restoring("mid_block.resnets.0", component="unet"), NOISY)
    with pytest.raises(AttributeError):
        sample(pipeline, restoring("mid_block.nothing", component="unet"))
    with pytest.raises(AttributeError):
        sample(pipeline, restoring(f"{BLOCKS}.0.nothing", f"{BLOCKS}.0.mlp"))

    assert hooks_of(pipeline) == []
