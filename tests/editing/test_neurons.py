"""The z-scores of channels, and the edit that holds them at their plain mean."""

import numpy as np
import pytest
import torch

from loco_cli.checkpoint.reader import read_tensor
from loco_cli.editing.contrast import Contrast, NeuronEdit, top_channels
from loco_cli.editing.deltas import new_weights
from loco_cli.editing.keys import AlignedPair
from loco_cli.editing.methods import solve
from loco_cli.editing.ridge import find_directions
from loco_cli.errors import EditError
from loco_cli.outputs.lora import _adapt
from loco_cli.recipe.load import load_recipe
from loco_cli.recipe.values import Ridge

N, D_OUT, D_TEXT = 3, 8, 32
STYLE = "{kind: style, subject: van gogh, to: painting}"
OBJECT = "{kind: object, subject: snoopy, to: a dog}"


@pytest.fixture
def problem():
    """A projection, two contrasts of five prompts, and four keys of each concept."""
    torch.manual_seed(0)
    weight = torch.randn(D_OUT, D_TEXT).double()
    contrasts = tuple(Contrast(torch.randn(5, D_TEXT), torch.randn(5, D_TEXT)) for _ in range(2))
    return weight, contrasts, (torch.randn(4, D_TEXT), torch.randn(4, D_TEXT))


def held(weight, contrasts, keys, ridge=1e-12, kept=None, n=N):
    moving = torch.cat(keys)
    kept = moving[:0] if kept is None else kept
    directions, _ = find_directions(moving, kept, None, Ridge(ridge))
    return NeuronEdit.of(weight, contrasts, keys, directions, n)


def edited(weight, *problem, **settings):
    left, right = held(weight, *problem, **settings).change(weight)
    return weight + left @ right


def test_z_is_the_difference_over_its_standard_error():
    """Prompts at 1 and 3 against 0 and 0: mean 2, population variance 1, so z = 2 / sqrt(0.5)."""
    concept, plain = torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1)

    assert Contrast(concept, plain).z_scores(torch.eye(1)).tolist() == pytest.approx([2 / 0.5**0.5])


def test_z_without_spread_is_finite():
    """Without spread, a channel that differs ranks first and an equal channel scores 0."""
    contrast = Contrast(torch.tensor([[2.0, 1.0]] * 2), torch.tensor([[1.0, 1.0]] * 2))

    z = contrast.z_scores(torch.eye(2))

    assert z[0] > 1e6
    assert z[1] == 0


def test_top_channels_are_sorted_by_size_then_index():
    """The sign of z does not matter, and the lower index breaks ties."""
    assert top_channels(torch.tensor([1.0, -3.0, 3.0, 0.5]), 3).tolist() == [1, 2, 0]


def test_the_number_of_neurons_is_checked(golden):
    """A projection with 8 channels has between 1 and 8 neurons."""
    for n in (0, D_OUT + 1):
        with golden.raises(EditError, f"{n} neurons"):
            top_channels(torch.zeros(D_OUT), n)


@pytest.mark.parametrize(("position", "expected"), [("last-subject", (13, 22)), ("last", (15, 25))])
def test_the_contrast_uses_one_position(position, expected):
    """The subject's last token matches the target's last word, the last position the last one."""
    source = torch.arange(10.0, 16)[:, None]
    pair = AlignedPair(source, source + 10, subject=(2, 3), source_end=4, target_end=3)

    contrast = Contrast.of([pair, pair], position)

    assert (contrast.concept[0].item(), contrast.plain[0].item()) == expected


def test_a_single_prompt_is_refused(golden):
    """A z-score needs at least two prompts."""
    pair = AlignedPair(torch.zeros(4, 1), torch.zeros(4, 1), (1,), 2, 2)

    with golden.raises(EditError):
        Contrast.of([pair], "last-subject")


def test_chosen_channels_output_their_plain_mean(problem):
    """With almost no ridge, independent keys get the plain mean."""
    weight, (contrast, _), (keys, _) = problem
    chosen = top_channels(contrast.z_scores(weight), N)

    answers = keys.double() @ edited(weight, (contrast,), (keys,)).T  # [4, d_out]

    mean = (contrast.plain.double() @ weight.T).mean(0)[chosen]
    torch.testing.assert_close(answers[:, chosen], mean.expand(4, N), rtol=0, atol=1e-8)
    assert held(weight, (contrast,), (keys,)).residual(weight) < 1e-8


@pytest.mark.parametrize("n", [1, N, D_OUT])
def test_only_chosen_rows_change(problem, n):
    """Exactly N rows of the weight change, so its rank is at most N."""
    weight, (contrast, _), (keys, _) = problem
    chosen = top_channels(contrast.z_scores(weight), n)

    change = edited(weight, (contrast,), (keys,), n=n) - weight

    assert change.any(1).nonzero()[:, 0].tolist() == sorted(chosen.tolist())
    assert torch.linalg.matrix_rank(change, rtol=1e-9) == min(n, len(keys))


def test_orthogonal_inputs_stay(problem):
    """An input orthogonal to every key keeps its output."""
    weight, (contrast, _), (keys, _) = problem
    bystander = torch.linalg.svd(keys.double()).Vh[-1]

    after = edited(weight, (contrast,), (keys,), ridge=0.1) @ bystander

    torch.testing.assert_close(after, weight @ bystander, rtol=0, atol=1e-10)


def test_a_channel_is_a_ridge_regression(problem):
    """Each chosen row minimizes its own ridge regression, including the preserved keys."""
    weight, (contrast, _), (keys, _) = problem
    kept, ridge = torch.randn(6, D_TEXT).double(), 0.3
    solution = edited(weight, (contrast,), (keys.double(),), ridge, kept)

    x = torch.cat([keys.double(), kept])
    for channel in top_channels(contrast.z_scores(weight), N):
        row = weight[channel]
        y = torch.cat([(contrast.plain.double() @ row).mean().expand(4), kept @ row])
        gram = x.T @ x + ridge * torch.eye(D_TEXT).double()
        expected = torch.linalg.solve(gram, x.T @ y + ridge * row)
        torch.testing.assert_close(solution[channel], expected, rtol=0, atol=1e-10)


def test_a_channel_moves_only_for_concepts_that_chose_it(problem):
    """A channel of the first concept keeps its outputs for the keys of the second."""
    weight, contrasts, keys = problem
    first, second = (set(top_channels(c.z_scores(weight), N).tolist()) for c in contrasts)
    only = sorted(first - second)

    answers = keys[1].double() @ edited(weight, contrasts, keys).T

    assert only
    before = keys[1].double() @ weight.T
    torch.testing.assert_close(answers[:, only], before[:, only], rtol=0, atol=1e-8)


def test_the_residual_measures_conflicting_keys(problem):
    """A key and its multiple cannot both map to one mean."""
    weight, (contrast, _), _ = problem
    key = torch.randn(1, D_TEXT).double()
    keys = (torch.cat([key, 3 * key]),)
    chosen = top_channels(contrast.z_scores(weight), N)

    answer = (edited(weight, (contrast,), keys, ridge=1e-6) @ key[0])[chosen]

    # least squares: w' k = mean (1 + 3) / (1 + 9)
    torch.testing.assert_close(answer, 0.4 * contrast.means(weight)[chosen], rtol=0, atol=1e-6)
    assert 0 < held(weight, (contrast,), keys, ridge=1e-6).residual(weight) < 1


def recipe_of(edits=STYLE, preserve="none", **edit):
    settings = "".join(f", {key}: {value}" for key, value in edit.items())
    text = f"loco: 1\nedits: [{edits}]\nedit: {{method: neurons{settings}}}\npreserve: {preserve}\n"
    return load_recipe(text, "r.yaml")


def weight_of(tiny, name):
    return read_tensor(tiny.checkpoint.slots("unet", name)[0])


def states_of(encoder, recipe, position="last-subject"):
    """Return the compared states [n, d] of the source prompts and of the target prompts."""
    concept, plain = [], []
    for pair in recipe.edits[0].edit_pairs:
        source, target = encoder.encode([pair.source, pair.target])
        at = source.positions_of("van gogh")[-1]
        same = target.end - (source.end - at)  # the position at the same distance from the end
        concept.append(source.states[-1 if position == "last" else at])
        plain.append(target.states[-1 if position == "last" else same])
    return (torch.stack(rows).numpy().astype(float) for rows in (concept, plain))


@pytest.mark.parametrize("position", ["last-subject", "last"])
def test_the_channels_follow_from_the_equation(tiny, encoder, position):
    """The equation, evaluated in numpy, selects exactly the rows that change."""
    recipe = recipe_of(neurons=10, position=position)
    style, plain = states_of(encoder, recipe, position)

    neuron_edit = solve(tiny, recipe, [(8, 9)], encoder)

    assert len(neuron_edit.changes) == 4
    for change, (_, stored, _) in zip(
        neuron_edit.changes, new_weights(tiny, neuron_edit), strict=True
    ):
        weight = weight_of(tiny, change.name)
        a, b = (states @ weight.numpy().astype(float).T for states in (style, plain))
        error = np.sqrt(a.var(0) / len(a) + b.var(0) / len(b))
        expected = np.argsort(-np.abs((a.mean(0) - b.mean(0)) / error))[:10]
        changed = (stored != weight).any(1).nonzero()[:, 0]
        assert changed.tolist() == sorted(expected.tolist())


def test_held_channels_approach_their_plain_mean(tiny, encoder):
    """At the subject's last token, the outputs of held channels approach the plain mean."""
    recipe = recipe_of(neurons=16, tokens="last-subject", ridge="0.01x")
    keys, plain = states_of(encoder, recipe)
    neuron_edit = solve(tiny, recipe, [(8,)], encoder)

    for slot, stored, _ in new_weights(tiny, neuron_edit):
        before, after = (w.numpy().astype(float) for w in (weight_of(tiny, slot.name), stored))
        rows = (after != before).any(1)
        mean = (plain @ before.T).mean(0)[rows]
        far, near = (np.abs((keys @ w.T)[:, rows] - mean).mean() for w in (before, after))
        assert near < 0.2 * far


def test_concepts_choose_their_own_channels(tiny, encoder):
    """Concepts that share a layer are solved together in any order."""
    one = solve(tiny, recipe_of(f"{STYLE}, {OBJECT}", neurons=8), [(8,), (8,)], encoder)
    other = solve(tiny, recipe_of(f"{OBJECT}, {STYLE}", neurons=8), [(8,), (8,)], encoder)

    assert [record.neurons for record in one.records] == [8, 8]
    both = zip(new_weights(tiny, one), new_weights(tiny, other), strict=True)
    for (_, stored, edit), (_, again, _) in both:
        assert 8 < edit.rank <= 16
        torch.testing.assert_close(stored, again, rtol=0, atol=1e-5)


def test_auto_is_a_share_of_the_channels(tiny, encoder):
    """`auto` edits 3/4 of the channels: 48 of 64 in layer 8, 24 of 32 in layer 13."""
    neuron_edit = solve(tiny, recipe_of(), [(8, 13)], encoder)

    assert [edit.rank for _, _, edit in new_weights(tiny, neuron_edit)] == [48, 48, 24, 24]


def test_a_lora_represents_the_change_exactly(tiny, encoder):
    """An edit of N rows has rank N, so the factors of a LoRA reproduce it."""
    neuron_edit = solve(tiny, recipe_of(neurons=6, preserve="[monet]"), [(8,)], encoder)

    adapter = _adapt(tiny, neuron_edit)

    for change, factors in zip(neuron_edit.changes, adapter.changes, strict=True):
        left, right = change.update.change(weight_of(tiny, change.name))
        assert factors.up.shape[1] == 6
        made = factors.up.double() @ factors.down.double()
        assert (made - left @ right).norm() < 1e-6 * (left @ right).norm()
