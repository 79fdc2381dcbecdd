"""Neurons of `tiny`, against a direct reading of the paper's equation."""

import numpy as np
import pytest
import torch

from loco_cli.checkpoint.reader import read_tensor
from loco_cli.editing.deltas import new_weights
from loco_cli.editing.methods import solve
from loco_cli.outputs.lora import adapt
from loco_cli.recipe import load_recipe

STYLE = "{kind: style, subject: van gogh, to: painting}"
OBJECT = "{kind: object, subject: snoopy, to: a dog}"


def recipe_of(edits=STYLE, preserve="none", **edit):
    settings = "".join(f", {key}: {value}" for key, value in edit.items())
    text = f"loco: 1\nedits: [{edits}]\nedit: {{method: neurons{settings}}}\npreserve: {preserve}\n"
    return load_recipe(text, "r.yaml")


def weight_of(tiny, name):
    return read_tensor(tiny.checkpoint.slots("unet", name)[0])


def states_of(encoder, recipe, position="last-subject"):
    """Return the states [n, d] of each source and each target prompt that are compared."""
    concept, plain = [], []
    for pair in recipe.edits[0].edit_pairs:
        source, target = encoder.encode([pair.source, pair.target])
        at = source.positions_of("van gogh")[-1]
        same = target.end - (source.end - at)  # as far from the end
        concept.append(source.states[-1 if position == "last" else at])
        plain.append(target.states[-1 if position == "last" else same])
    return (torch.stack(rows).numpy().astype(float) for rows in (concept, plain))


@pytest.mark.parametrize("position", ["last-subject", "last"])
def test_channels_are_those_of_the_equation(tiny, encoder, position):
    """
    The z-score of every channel of four matrices, written out in numpy, names the rows that change.
    """
    recipe = recipe_of(neurons=10, position=position)
    style, plain = states_of(encoder, recipe, position)

    found = solve(tiny, recipe, [(8, 9)], encoder)

    assert len(found.changes) == 4
    for change, (_, stored, _) in zip(found.changes, new_weights(tiny, found), strict=True):
        weight = weight_of(tiny, change.name)
        a, b = (states @ weight.numpy().astype(float).T for states in (style, plain))
        error = np.sqrt(a.var(0) / len(a) + b.var(0) / len(b))
        expected = np.argsort(-np.abs((a.mean(0) - b.mean(0)) / error))[:10]
        changed = (stored != weight).any(1).nonzero()[:, 0]
        assert changed.tolist() == sorted(expected.tolist())


def test_channels_come_near_their_plain_mean(tiny, encoder):
    """
    At the subject's last token the held channels answer nearer to the plain mean than before.
    """
    recipe = recipe_of(neurons=16, tokens="last-subject", ridge="0.01x")
    keys, plain = states_of(encoder, recipe)
    found = solve(tiny, recipe, [(8,)], encoder)

    for slot, stored, _ in new_weights(tiny, found):
        before, after = (w.numpy().astype(float) for w in (weight_of(tiny, slot.name), stored))
        rows = (after != before).any(1)
        mean = (plain @ before.T).mean(0)[rows]
        far, near = (np.abs((keys @ w.T)[:, rows] - mean).mean() for w in (before, after))
        assert near < 0.2 * far


def test_two_concepts_have_channels_of_their_own(tiny, encoder):
    """
    In a layer that they share both are solved together, in any order.
    """
    one = solve(tiny, recipe_of(f"{STYLE}, {OBJECT}", neurons=8), [(8,), (8,)], encoder)
    other = solve(tiny, recipe_of(f"{OBJECT}, {STYLE}", neurons=8), [(8,), (8,)], encoder)

    assert [record.neurons for record in one.records] == [8, 8]
    both = zip(new_weights(tiny, one), new_weights(tiny, other), strict=True)
    for (_, stored, edit), (_, again, _) in both:
        assert 8 < edit.rank <= 16
        torch.testing.assert_close(stored, again, rtol=0, atol=1e-5)


def test_auto_is_a_share_of_the_channels(tiny, encoder):
    """
    Three quarters of the 64 channels of layer 8, three quarters of the 32 of layer 13.
    """
    found = solve(tiny, recipe_of(), [(8, 13)], encoder)

    assert [edit.rank for _, _, edit in new_weights(tiny, found)] == [48, 48, 24, 24]


def test_a_lora_holds_it_exactly(tiny, encoder):
    """
    N rows are N ranks: the factors of a LoRA make the change that was solved.
    """
    found = solve(tiny, recipe_of(neurons=6, preserve="[monet]"), [(8,)], encoder)

    adapter = adapt(tiny, found)

    for change, factors in zip(found.changes, adapter.changes, strict=True):
        left, right = change.update.change(weight_of(tiny, change.name))
        assert factors.up.shape[1] == 6
        made = factors.up.double() @ factors.down.double()
        assert (made - left @ right).norm() < 1e-6 * (left @ right).norm()
