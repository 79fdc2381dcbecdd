"""Plans: everything but the work, from headers alone."""

from dataclasses import replace

import pytest

from loco_cli.commands import edit, evaluate, generate, localize
from loco_cli.commands.evaluate import EvaluateOptions
from loco_cli.commands.generate import GenerateOptions
from loco_cli.commands.localize import LocalizeOptions
from loco_cli.errors import OutputExists, RequestError
from loco_cli.outputs.paths import EditOptions
from loco_cli.recipe.load import load_recipe, recipe_from_text
from loco_cli.report.sentences import plan_lines, search_costs


def recipe_of(edit="{layers: [8, 9]}", rest=""):
    text = f"loco: 1\nedits: [{{kind: style, subject: van gogh}}]\nedit: {edit}\n{rest}"
    return load_recipe(text, "r.yaml")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_edit_with_layers_names_its_tensors(tiny, here):
    """
    With its layers given an edit needs no pictures, and says which tensors will change.
    """
    plan = edit.plan(recipe_of(), EditOptions()).document()

    assert plan.localize is None
    assert plan.edits[0].layers == (8, 9)
    assert plan.edits[0].module_paths == tiny.spec.module_paths[8:10]
    assert plan.tensors == tuple(n for i in (8, 9) for n in tiny.spec.layers[i].tensor_names())
    assert plan.output == "tiny-r"
    assert plan.output_bytes > 1_000_000
    assert not here.joinpath("tiny-r").exists()


def test_a_lora_is_a_file_even_of_a_folder():
    """
    The plan says what will be written; how large a LoRA is shows when it is solved.
    """
    plan = edit.plan(recipe_of(), EditOptions(form="lora")).document()

    assert (plan.form, plan.output, plan.output_bytes) == ("lora", "tiny-r.safetensors", None)
    assert "write tiny-r.safetensors as a LoRA" in "\n".join(plan_lines(plan))


def test_an_edit_without_layers_has_a_price():
    """
    An edit whose layers must be found says how many pictures that takes.
    """
    settings = "localize: {width: 2, search: exhaustive}\n"

    plan = edit.plan(recipe_of("{layer_range: auto}", settings), EditOptions()).document()

    # 15 windows, the original and the full swap; 4 prompts, 4 seeds, 20 steps, guided
    assert plan.localize.n_pictures == 17 * 4 * 4
    assert plan.localize.unet_evaluations == 17 * 4 * 4 * 20 * 2
    assert plan.edits[0].layers is None
    assert plan.tensors == ()


def test_auto_widths_are_priced_at_most():
    """
    `width: auto` may stop early; its price is that of all widths.
    """
    settings = "localize: {width: auto, seeds: 1, search: exhaustive}\n"

    plan = localize.plan(recipe_of("{layer_range: auto}", settings)).document()

    assert plan.localize.n_pictures == (2 + 16 + 15 + 14 + 13) * 4


def test_a_fast_search_is_priced_at_most():
    """
    A fast search of all widths costs less than half of the sweep at worst, its ranking with it.
    """
    plan = localize.plan(recipe_of("{layer_range: auto}")).document()

    n_pictures = plan.localize.n_pictures
    assert n_pictures < (2 + 16 + 15 + 14 + 13) * 4 * 4 / 2
    # 4 prompts, of whose 20 steps 5 are replayed at the price of 4
    assert plan.localize.unet_evaluations == n_pictures * 20 * 2 + 4 * 5 * 4


def test_a_measured_strength_has_a_price():
    """
    It comes on top of what finds the layers, and is none where the strength is fixed.
    """
    sought = edit.plan(recipe_of("{layer_range: auto}"), EditOptions()).document()
    named = edit.plan(recipe_of("{layers: [8], strength: measured}"), EditOptions()).document()
    fixed = edit.plan(recipe_of("{layer_range: auto, strength: fixed}"), EditOptions()).document()

    assert named.localize is fixed.strength is None
    # 8 wordings and 8 to keep: before, on 5 rungs, and 3 of them finished
    assert named.strength.n_pictures == 16 + 5 * 16 + 3 * 16
    assert sought.strength.n_pictures == named.strength.n_pictures + 2 * 5 * 8
    assert search_costs(sought.localize, sought.strength)[1].startswith(
        "then choosing the strength: at most 224 "
    )
    assert "  choose the strength: at most 144 pictures" in "\n".join(plan_lines(named))
    assert evaluate.plan(recipe_of("{layer_range: auto}")).document().strength == sought.strength
    plain = edit.plan(recipe_of(), EditOptions())
    assert search_costs(plain.localize, plain.strength) == ()


def test_an_evaluation_is_priced_twice():
    """
    Every prompt is drawn before and after; finding layers comes on top where it must.
    """
    settings = "evaluate: {seeds: 3, steps: 2, guidance: 1.0}\n"
    plain = evaluate.plan(recipe_of(rest=settings)).document()
    sought = evaluate.plan(recipe_of("{layer_range: auto}", settings)).document()

    assert plain.pictures.n_pictures % 6 == 0
    assert plain.pictures.unet_evaluations == plain.pictures.n_pictures * 2
    assert plain.localize is None
    assert sought.localize is not None
    assert sought.pictures == plain.pictures


def test_an_evaluation_of_a_checkpoint_needs_no_edit(tiny):
    """
    With `--edited` neither method nor layers of the recipe matter.
    """
    plan = evaluate.plan(
        recipe_of("{method: neurons}"), EvaluateOptions(edited=str(tiny.path))
    ).document()

    assert plan.edits == ()
    assert plan.localize is None


def test_pictures_are_counted():
    """
    A request is prompts times seeds.
    """
    request = GenerateOptions(("a cat", "a dog"), (0, 1, 2), "tiny", steps=5, guidance=2.0)

    plan = generate.plan(request).document()

    assert (plan.pictures.n_pictures, plan.pictures.unet_evaluations) == (6, 60)


def test_plans_name_no_absolute_path(here):
    """
    Paths in a plan are relative to where the command runs.
    """
    plan = localize.plan(
        recipe_from_text("van gogh style"), LocalizeOptions(here / "found")
    ).document()

    assert plan.output == "found"
    assert not plan.path.startswith("/")


def test_a_plan_is_said_in_lines():
    """
    A terminal shows model, edits, layers, tensors and output.
    """
    lines = plan_lines(edit.plan(recipe_of(), EditOptions()).document())

    text = "\n".join(lines)
    assert lines[0].startswith("edit with tiny (sd1) at ")
    assert "style `van gogh` → `painting`, layers 8 and 9" in text
    assert "'van gogh' → 'painting'" in text
    assert "change up_blocks.1.attentions.1.transformer_blocks.0.attn2.to_k.weight" in text
    assert "write tiny-r (" in text


@pytest.mark.parametrize(
    ("request_", "output", "message"),
    [
        (GenerateOptions(("a",), (0,), "tiny", steps=1001), None, "1001 steps exceed the maximum"),
        (
            GenerateOptions(("a",), (0,), "tiny", guidance=float("nan")),
            None,
            "guidance `nan` is no",
        ),
        (GenerateOptions(("a",), (0,), "tiny"), "a.jpg", "the output `a.jpg` is no `.png`"),
        (GenerateOptions(("a",), (0,), "sd41"), None, "unknown model `sd41`"),
    ],
)
def test_pictures_that_cannot_be_made_are_refused(here, request_, output, message):
    """
    A wrong request is found before a model is looked at.
    """
    with pytest.raises(RequestError, match=message):
        generate.plan(
            replace(request_, output=here.relative_to(here) / output if output else None)
        ).document()


def test_a_plan_raises_what_the_command_would(here):
    """
    An output that is in the way is found by the plan already.
    """
    (here / "evaluation.json").write_text("")

    with pytest.raises(OutputExists, match=r"`evaluation\.json` exists"):
        evaluate.plan(recipe_of(), EvaluateOptions(output=here.relative_to(here))).document()


@pytest.mark.parametrize("method", ["locogen", "causal-trace", "neurons"])
def test_a_localization_goes_apart_from_its_model(tiny, method):
    """
    Whatever is looked for, the folder for the result is no part of the model.
    """
    recipe = recipe_of(rest=f"localize: {{method: {method}}}\n")

    with pytest.raises(OutputExists, match=r"is inside `.*`, which is only read"):
        localize.plan(recipe, LocalizeOptions(tiny.path / "found", force=True)).document()
