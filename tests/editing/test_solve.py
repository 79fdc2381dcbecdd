"""Solves from a recipe to new weights, without images."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from loco_cli.checkpoint.reader import read_tensor, tensor_bytes
from loco_cli.editing.contexts import Contexts
from loco_cli.editing.deltas import new_weights
from loco_cli.editing.keys import encode_problem
from loco_cli.editing.methods import solve
from loco_cli.editing.preserve import fully_padded_prompts, preserve_set, preserved_prompts
from loco_cli.errors import EditError
from loco_cli.models.encoders import encoder_of
from loco_cli.models.locate import locate
from loco_cli.protocol.everyday import drift_prompts
from loco_cli.recipe.load import load_recipe
from loco_cli.sampling.weights import replace_weights
from tests.families.layouts import write_folder
from tests.families.small import small_model
from tests.published import ridge_update

STYLE = "{kind: style, subject: van gogh, to: painting}"
OBJECT = "{kind: object, subject: snoopy, to: a dog}"


def recipe_of(edits=STYLE, edit="{layers: [8, 9]}", preserve="auto"):
    return load_recipe(f"loco: 1\nedits: [{edits}]\nedit: {edit}\npreserve: {preserve}\n", "r.yaml")


def key_weight(tiny, layer):
    """Return a key projection of the base in float64."""
    name = tiny.spec.layers[layer].tensor_names()[0]
    return read_tensor(tiny.checkpoint.slots("unet", name)[0]).double()


def solved(tiny, encoder, recipe, *layers_of):
    return solve(tiny, recipe, layers_of or ((8, 9),), encoder)


def solutions(located, solved_edit):
    """Return the solution of each layer that changes."""
    layer_of = {name: one.index for one in located.spec.layers for name in one.tensor_names()}
    return {layer_of[change.name]: change.update for change in solved_edit.changes}


def test_the_paper_form_equals_the_published_formula(tiny, encoder):
    """
    With `last-subject` and nothing preserved, the change is the published formula.

    The keys of one word are nearly parallel, so the full formula loses some digits.
    """
    recipe = recipe_of(edit="{layers: [8], tokens: last-subject, ridge: 0.01}", preserve="none")
    pairs = recipe.edits[0].edit_pairs
    # one batch, like in `solve`: the keys are so similar that their last digits matter
    prompts = [text for pair in pairs for text in (pair.source, pair.target)]
    others = drift_prompts(("van gogh", "painting"))
    encoded = encoder.encode([*prompts, *others], padded=False)[: len(prompts)]
    keys, targets = [], []
    for source, target in zip(encoded[::2], encoded[1::2], strict=True):
        position = source.positions_of("van gogh")[-1]
        keys.append(source.states[position])
        targets.append(target.states[target.end - (source.end - position)])
    weight = key_weight(tiny, 8)
    keys, targets = torch.stack(keys).double(), torch.stack(targets).double()

    left, right = solutions(tiny, solved(tiny, encoder, recipe, (8,)))[8].change(weight)

    published = ridge_update(weight, keys, targets @ weight.T, 0.01)
    torch.testing.assert_close(weight + left @ right, published, rtol=0, atol=1e-7)


def test_source_prompts_get_the_outputs_of_their_targets(tiny, encoder):
    """With a small ridge, the edited keys map the subject to the base's output for the target."""
    recipe = recipe_of(edit="{layers: [8], tokens: last-subject, ridge: 1e-6x}", preserve="none")
    weight = key_weight(tiny, 8)
    left, right = solutions(tiny, solved(tiny, encoder, recipe, (8,)))[8].change(weight)
    edited = weight + left @ right

    pair = recipe.edits[0].edit_pairs[1]
    source, target = encoder.encode([pair.source, pair.target])
    key = source.states[source.positions_of("van gogh")[-1]].double()
    expected = weight @ target.states[target.end - 1].double()

    assert (edited @ key - expected).norm() < 0.05 * (weight @ key - expected).norm()


def test_the_null_space_form_keeps_every_word_exactly(tiny, encoder):
    """Words of preserved prompts keep their outputs to the last digits; the subject moves."""
    recipe = recipe_of(edit="{layers: [8], preserve_form: null-space}", preserve="[a cat]")
    solved_edit = solved(tiny, encoder, recipe, (8,))
    weight = key_weight(tiny, 8)
    left, right = solutions(tiny, solved_edit)[8].change(weight)
    source, cat = encoder.encode(["a painting in the style of van gogh", "a photo of a cat"])

    moved = (source.states.double() @ (left @ right).T).norm()
    words = cat.states[: cat.end + 1].double() @ (left @ right).T

    assert words.norm() < 1e-4 * moved  # the keys are float32
    assert 0 < solved_edit.records[0].residual < 1


def test_too_many_exact_words_are_refused(tiny, encoder):
    """The words of eight neighbours span all 96 dimensions of `tiny`, so no edit is left."""
    recipe = recipe_of(edit="{layers: [8], preserve_form: null-space}")

    with pytest.raises(EditError):
        solved(tiny, encoder, recipe, (8,))


def test_the_empty_prompt_moves_little(tiny, encoder):
    """The empty prompt of guidance is preserved, so a source prompt moves more."""
    recipe = recipe_of()
    solution = solutions(tiny, solved(tiny, encoder, recipe))[8]
    weight = key_weight(tiny, 8)
    left, right = solution.change(weight)
    empty, source = encoder.encode(["", "a painting in the style of van gogh"])

    moved_empty = (empty.states.double() @ (left @ right).T).norm()
    moved_source = (source.states.double() @ (left @ right).T).norm()

    assert moved_empty < 0.5 * moved_source


def test_a_relative_ridge_is_in_units_of_the_keys(tiny, encoder):
    """`0.01x` multiplies the mean squared norm of the moving keys and is recorded as a number."""
    one = solved(tiny, encoder, recipe_of(edit="{layers: [8], ridge: 0.01x}"), (8,))
    price = one.records[0].ridge
    other = solved(tiny, encoder, recipe_of(edit=f"{{layers: [8], ridge: {price!r}}}"), (8,))

    first, second = (solutions(tiny, solved_edit)[8] for solved_edit in (one, other))
    torch.testing.assert_close(first.directions, second.directions)
    assert price > 0.01 * 0.1


def test_two_edits_touch_the_union_of_their_layers(tiny, encoder):
    """Edits are solved together in shared layers and separately elsewhere."""
    recipe = recipe_of(f"{STYLE}, {OBJECT}", "{layer_range: auto}")

    solved_edit = solved(tiny, encoder, recipe, (8, 9), (4, 9))

    solution_of = solutions(tiny, solved_edit)
    assert sorted(solution_of) == [4, 8, 9]
    style, thing = solved_edit.records
    assert (style.layer_range, style.layers) == ((8, 10), None)
    assert (thing.layer_range, thing.layers) == (None, (4, 9))
    assert len(solution_of[8].directions) == style.n_keys
    assert len(solution_of[4].directions) == thing.n_keys
    assert len(solution_of[9].directions) == style.n_keys + thing.n_keys


def test_new_weights_are_keys_and_values_of_the_layers(tiny, encoder):
    """Each layer gives a finite key and value projection in the dtype of the file."""
    weights = new_weights(tiny, solved(tiny, encoder, recipe_of()))

    names = [name for layer in (8, 9) for name in tiny.spec.layers[layer].tensor_names()]
    assert [slot.name for slot, _, _ in weights] == names
    for _, stored, edit in weights:
        assert stored.dtype == torch.float16
        assert torch.isfinite(stored).all()
        assert edit.relative_change > 0
        assert 0 < edit.rounding_error < 0.5
        assert 0 < edit.rank <= 64


def test_the_record_describes_the_stored_change(tiny, encoder):
    """`relative_change` is |ΔW| / |W| as stored, and the bytes are those of the tensor."""
    slot, stored, edit = new_weights(tiny, solved(tiny, encoder, recipe_of()))[0]
    base = read_tensor(slot).double()

    change = (stored.double() - base).norm() / base.norm()

    assert edit.relative_change == pytest.approx(change.item())
    assert edit.key == slot.key
    assert tensor_bytes(stored, slot) == stored.numpy().tobytes()


def test_the_same_recipe_gives_the_same_bytes(tiny):
    """A solve depends only on the checkpoint and the recipe."""
    once, again = (
        [
            tensor_bytes(stored, slot)
            for slot, stored, _ in new_weights(tiny, solved(tiny, encoder_of(tiny), recipe_of()))
        ]
        for _ in range(2)
    )

    assert once == again


def test_an_edit_without_effect_is_refused(tiny, encoder, golden):
    """An edit that changes no tensor is an error."""
    recipe = recipe_of(edit="{layers: [8, 9], ridge: 1e12}")

    with golden.raises(EditError, "`--ridge`"):
        new_weights(tiny, solved(tiny, encoder, recipe))


@pytest.fixture(scope="module", params=["sd15", "sd21", "sdxl", "deepfloyd"])
def relative(request, tmp_path_factory):
    """A small relative of a known model in a folder."""
    root = tmp_path_factory.mktemp("relative") / "model"
    return locate(str(write_folder(root, small_model(request.param), torch.float32)))


@torch.no_grad()
def outputs(located, states, weights):
    """Return the outputs of all projections of a running UNet for each prompt, by path."""
    unet = UNet2DConditionModel.from_pretrained(located.path / "unet").eval()
    with replace_weights(unet, weights):
        output_of = {}
        for layer in located.spec.layers:
            for projection in layer.projections:
                path = f"{layer.module_path}.{projection.name}"
                unet.get_submodule(path).register_forward_hook(
                    lambda _, args, output, path=path: output_of.update({path: output})
                )
        n = len(states)
        added = {"text_embeds": torch.zeros(n, 128), "time_ids": torch.zeros(n, 6)}
        sample = torch.zeros(n, unet.config.in_channels, 16, 16)
        is_xl = located.spec.family.name == "sdxl"
        unet(sample, 0, torch.stack(states), added_cond_kwargs=added if is_xl else None)
    return output_of


def test_in_every_family_the_source_gets_the_target_values(relative):
    """
    In the edited UNet, the subject gets the keys and values of the target in the edited layers.

    The outputs of all other layers stay equal.
    """
    encoder, layers = encoder_of(relative), (1, 2, 5)
    recipe = recipe_of(edit="{layers: [1], tokens: last-subject, ridge: 1e-9x}", preserve="none")
    pair = recipe.edits[0].edit_pairs[1]
    source, target = encoder.encode([pair.source, pair.target])
    here = source.positions_of("van gogh")[-1]
    there = target.end - (source.end - here)

    solved_edit = solve(relative, recipe, (layers,), encoder)

    weights = {slot.name: stored for slot, stored, _ in new_weights(relative, solved_edit)}
    states = [source.states, target.states]
    before, after = (outputs(relative, states, w) for w in ({}, weights))
    for layer in relative.spec.layers:
        for projection in layer.projections:
            path = f"{layer.module_path}.{projection.name}"
            expected, original = before[path][1, there], before[path][0, here]
            answer = after[path][0, here]
            if layer.index in layers:
                assert (answer - expected).norm() < 1e-2 * (original - expected).norm(), path
            else:
                assert torch.equal(answer, original), path


def test_each_layer_of_deepfloyd_has_its_own_solution(relative):
    """Layers share a solution unless norms give them different inputs, as in DeepFloyd."""
    solved_edit = solve(relative, recipe_of(preserve="none"), ((1, 2),), encoder_of(relative))

    solution_of = solutions(relative, solved_edit)
    assert (solution_of[1] is solution_of[2]) == (relative.spec.family.name != "if")
    assert solved_edit.records[0].ridge == solution_of[1].ridge


def test_preserved_prompts_move_less_in_every_layer(relative):
    """With a large preserve set, the empty prompt moves less than the subject."""
    encoder = encoder_of(relative)
    contexts = Contexts(relative)
    solved_edit = solve(relative, recipe_of(preserve="[monet]"), ((1, 5),), encoder)
    prompts = encoder.encode(["", "a painting in the style of van gogh"])

    for layer in (1, 5):
        read, solution = contexts.of_layer(layer), solutions(relative, solved_edit)[layer]
        moved = [
            (read(contexts.shared(one.states)).double() @ solution.directions.T @ solution.shift)
            for one in prompts
        ]
        assert moved[0].norm() < 0.5 * moved[1].norm()


def test_no_key_is_both_moved_and_preserved(tiny, encoder):
    """With `tokens: all`, states that a preserved prompt shares do not move."""
    recipe = recipe_of(edit="{layers: [8], tokens: all}", preserve="[monet, hokusai]")
    kept = preserved_prompts(tiny.spec, recipe, preserve_set(tiny.spec, recipe, encoder))
    problem = encode_problem(recipe, kept, encoder)

    keys, targets = problem.rows(0)

    preserved = torch.cat([one.states for one in problem.preserved.values()])
    assert len(keys) == len(targets) > 100
    assert not (keys[:, None] == preserved[None]).all(-1).any()


def test_each_edit_has_its_own_residual(tiny, encoder):
    """The residual of an edit covers only the shift of its own rows."""
    recipe = recipe_of(f"{STYLE}, {OBJECT}", "{layers: [8]}", "none")

    done = solved(tiny, encoder, recipe, (8,), (8,))

    solution = done.changes[0].update
    problem = encode_problem(recipe, (), encoder, padded=fully_padded_prompts(recipe, ()))
    for i, record in enumerate(done.records):
        keys, targets = (rows.double() for rows in problem.rows(i))
        missing = keys @ solution.directions.T @ solution.shift - (targets - keys)
        assert record.residual == pytest.approx((missing.norm() / (targets - keys).norm()).item())
    assert done.records[0].residual != done.records[1].residual


def test_edits_in_different_layers_are_solved_separately(tiny, encoder):
    """An edit alone in its layer gives the same change as without the other edit."""
    recipe = recipe_of(f"{STYLE}, {OBJECT}", "{}", "auto")
    chosen = preserve_set(tiny.spec, recipe, encoder)

    done = solved(tiny, encoder, recipe, (8,), (4,))

    for edit, layer in enumerate((8, 4)):
        kept = preserved_prompts(tiny.spec, recipe, chosen, (edit,))
        problem = encode_problem(recipe, kept, encoder, padded=fully_padded_prompts(recipe, chosen))
        alone = problem.solve((edit,))
        names = tiny.spec.layers[layer].tensor_names()
        (update, *_) = [one.update for one in done.changes if one.name in names]
        change, expected = (one.directions.T @ one.shift for one in (update, alone))
        torch.testing.assert_close(change, expected, rtol=1e-9, atol=1e-9)
