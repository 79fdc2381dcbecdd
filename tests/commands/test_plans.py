"""Plans of all commands, made from headers without a loaded model."""

from pathlib import Path

import pytest

from loco_cli.commands import edit, evaluate, generate, localize
from loco_cli.commands.evaluate import EvaluateOptions
from loco_cli.commands.generate import GenerateOptions
from loco_cli.commands.localize import LocalizeOptions
from loco_cli.errors import OutputExists, RequestError, UnknownName
from loco_cli.outputs.paths import EditOptions
from loco_cli.recipe.load import load_recipe, recipe_from_text
from loco_cli.report.sentences import plan_lines, search_costs

pytestmark = pytest.mark.usefixtures("here")


def recipe_of(edit="{layers: [8, 9]}", rest=""):
    text = f"loco: 1\nedits: [{{kind: style, subject: van gogh}}]\nedit: {edit}\n{rest}"
    return load_recipe(text, "r.yaml")


def test_edit_in_given_layers(tiny, here):
    """
    An edit in given layers needs no images, and its plan lists the tensors that change.
    """
    plan = edit.plan(recipe_of(), EditOptions()).document()

    assert plan.localize is None
    assert plan.edits[0].layers == (8, 9)
    assert plan.edits[0].module_paths == tiny.spec.module_paths[8:10]
    assert plan.tensors == tuple(n for i in (8, 9) for n in tiny.spec.layers[i].tensor_names())
    assert plan.output == "tiny-r"
    assert plan.output_bytes > 1_000_000
    assert not here.joinpath("tiny-r").exists()


def test_edit_as_lora():
    """
    A LoRA is a file even if its base is a folder, and its size is unknown before the solve.
    """
    plan = edit.plan(recipe_of(), EditOptions(form="lora")).document()

    assert (plan.form, plan.output, plan.output_bytes) == ("lora", "tiny-r.safetensors", None)
    assert "write tiny-r.safetensors as a LoRA" in "\n".join(plan_lines(plan))


def test_edit_with_a_search():
    """
    The plan of an edit without layers counts the images of the search.
    """
    settings = "localize: {width: 2, search: exhaustive}\n"

    plan = edit.plan(recipe_of("{layer_range: auto}", settings), EditOptions()).document()

    # 15 windows, the original and the full swap; 4 prompts, 4 seeds, 20 steps, guided
    assert plan.localize.n_pictures == 17 * 4 * 4
    assert plan.localize.unet_evaluations == 17 * 4 * 4 * 20 * 2
    assert plan.edits[0].layers is None
    assert plan.tensors == ()


def test_cost_of_all_widths():
    """
    `width: auto` may stop early, so its plan is the cost of all widths.
    """
    settings = "localize: {width: auto, seeds: 1, search: exhaustive}\n"

    plan = localize.plan(recipe_of("{layer_range: auto}", settings)).document()

    assert plan.localize.n_pictures == (2 + 16 + 15 + 14 + 13) * 4


def test_cost_of_a_fast_search():
    """
    A fast search and its ranking cost at most half as much as an exhaustive search.
    """
    plan = localize.plan(recipe_of("{layer_range: auto}")).document()

    n_pictures = plan.localize.n_pictures
    assert n_pictures < (2 + 16 + 15 + 14 + 13) * 4 * 4 / 2
    # for each of 4 prompts, 5 of 20 steps are replayed, which takes 4 calls each
    assert plan.localize.unet_evaluations == n_pictures * 20 * 2 + 4 * 5 * 4


def test_cost_of_the_strength():
    """
    A measured strength adds images to those of the search, and a fixed strength adds none.
    """
    sought = edit.plan(recipe_of("{layer_range: auto}"), EditOptions()).document()
    named = edit.plan(recipe_of("{layers: [8], strength: measured}"), EditOptions()).document()
    fixed = edit.plan(recipe_of("{layer_range: auto, strength: fixed}"), EditOptions()).document()

    assert named.localize is fixed.strength is None
    # 8 prompts to forget and 8 to keep: before the edit, on 5 rungs, and 3 rungs in full
    assert named.strength.n_pictures == 16 + 5 * 16 + 3 * 16
    assert sought.strength.n_pictures == named.strength.n_pictures + 2 * 5 * 8
    assert "224" in search_costs(sought.localize, sought.strength)[1]
    assert "144" in "\n".join(plan_lines(named))
    assert evaluate.plan(recipe_of("{layer_range: auto}")).document().strength == sought.strength
    plain = edit.plan(recipe_of(), EditOptions())
    assert search_costs(plain.localize, plain.strength) == ()


def test_cost_of_an_evaluation():
    """
    An evaluation draws every prompt before and after the edit, besides any search for layers.
    """
    settings = "evaluate: {seeds: 3, steps: 2, guidance: 1.0}\n"
    plain = evaluate.plan(recipe_of(rest=settings)).document()
    sought = evaluate.plan(recipe_of("{layer_range: auto}", settings)).document()

    assert plain.pictures.n_pictures % 6 == 0
    assert plain.pictures.unet_evaluations == plain.pictures.n_pictures * 2
    assert plain.localize is None
    assert sought.localize is not None
    assert sought.pictures == plain.pictures


def test_evaluation_of_a_checkpoint(tiny):
    """
    With `--edited`, the method and the layers of the recipe are ignored.
    """
    plan = evaluate.plan(
        recipe_of("{method: neurons}"), EvaluateOptions(edited=str(tiny.path))
    ).document()

    assert plan.edits == ()
    assert plan.localize is None


def test_cost_of_images():
    """
    The number of images is the number of prompts times the number of seeds.
    """
    request = GenerateOptions(("a cat", "a dog"), (0, 1, 2), "tiny", steps=5, guidance=2.0)

    plan = generate.plan(request).document()

    assert (plan.pictures.n_pictures, plan.pictures.unet_evaluations) == (6, 60)


def test_relative_paths(here):
    """
    Paths in a plan are relative to the current folder.
    """
    plan = localize.plan(
        recipe_from_text("van gogh style"), LocalizeOptions(here / "found")
    ).document()

    assert plan.output == "found"
    assert not plan.path.startswith("/")


def test_plan_as_lines(golden):
    """
    A terminal shows the model, edits, layers, tensors and output of a plan.
    """
    lines = plan_lines(edit.plan(recipe_of(), EditOptions()).document())

    golden("\n".join(lines[1:]))  # the first line has a path of this machine


@pytest.mark.parametrize(
    ("options", "error_class", "name"),
    [
        (GenerateOptions(("a",), (0,), "tiny", steps=1001), RequestError, "1001"),
        (GenerateOptions(("a",), (0,), "tiny", guidance=float("nan")), RequestError, "nan"),
        (GenerateOptions(("a",), (0,), "tiny", output=Path("a.jpg")), RequestError, "a.jpg"),
        (GenerateOptions(("a",), (0,), "sd41"), UnknownName, "sd41"),
    ],
    ids=["steps", "guidance", "output", "model"],
)
def test_wrong_images(golden, options, error_class, name):
    """
    A wrong request for images is refused without a loaded model.
    """
    with golden.raises(error_class, name):
        generate.plan(options)


def test_existing_output(golden, here):
    """
    The plan of an evaluation finds an existing output.
    """
    (here / "evaluation.json").write_text("")

    with golden.raises(OutputExists, "evaluation.json"):
        evaluate.plan(recipe_of(), EvaluateOptions(output=Path()))


@pytest.mark.parametrize("method", ["locogen", "causal-trace", "neurons"])
def test_localization_inside_its_model(tiny, method):
    """
    No method of localization writes its results into the folder of the model.
    """
    recipe = recipe_of(rest=f"localize: {{method: {method}}}\n")

    with pytest.raises(OutputExists):
        localize.plan(recipe, LocalizeOptions(tiny.path / "found", force=True))
