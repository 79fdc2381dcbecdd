"""Localizations as files and as sentences."""

import json

import pytest

from loco_cli.commands import localize
from loco_cli.commands.localize import LocalizeOptions
from loco_cli.errors import OutputExists
from loco_cli.localization import ConceptName, LayerName, Localization, ModelName, WindowScore
from loco_cli.models.session import RunOptions
from loco_cli.recipe.load import load_recipe
from loco_cli.report.localization import localization_sentences
from tests.listeners import RecordingListener

RECIPE = """
loco: 1
edits:
  - {kind: style, subject: van gogh, source: ["a house by {subject}"]}
  - {kind: object, subject: snoopy, to: a dog, source: ["a photo of {subject}"]}
localize: {width: 15, seeds: 1, steps: 1}
"""
CPU = RunOptions(device="cpu")


def recipe_of(n_edits):
    recipe = load_recipe(RECIPE, "r.yaml")
    return recipe.model_copy(update={"edits": recipe.edits[:n_edits]})


def localization(scores, original=0.8, target=0.2, stderr=0.0):
    """Return a localization by hand whose windows of one layer have these scores."""
    windows = [WindowScore.of((i,), [s], original=original, target=target) for i, s in scores]
    windows = [one.model_copy(update={"stderr": stderr}) for one in windows]
    best = min(windows, key=lambda one: one.score)
    return Localization(
        model=ModelName(name="tiny", family="sd1"),
        concept=ConceptName(kind="style", subject="monet", to="painting"),
        method="locogen",
        search="exhaustive",
        width=1,
        layer_range=best.layer_range,
        effect=best.effect,
        better="lower",
        layers=tuple(LayerName(layer=i, module_path=f"m{i}") for i in best.layer_set),
        scores=tuple(windows),
        original_score=original,
        target_score=target,
        prompts=(),
        seeds=(0,),
        steps=1,
        guidance=1.0,
        scorer="tiny",
        unet_evaluations=0,
        seconds=0.0,
    )


def test_one_concept_is_one_document(tmp_path):
    """
    Document, sheet and report are written, and the file is what the command would print.
    """
    found = localize.run(
        localize.plan(
            recipe_of(1), LocalizeOptions(tmp_path / "found", command=("loco", "localize"))
        ),
        CPU,
    )

    assert [path.name for path in found.files] == ["localization.json", "sheet.png", "report.html"]
    document = json.loads((tmp_path / "found" / "localization.json").read_text())
    assert document == found.to_json()
    assert document["schema"] == "loco.localization/1"
    assert (tmp_path / "found" / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert "van gogh" in (tmp_path / "found" / "report.html").read_text()


def test_several_concepts_are_a_document_of_documents():
    """
    A recipe with several edits gives `loco.localizations/1`, and nothing is written unasked.
    """
    found = localize.run(localize.plan(recipe_of(2)), CPU)

    document = found.to_json()
    assert document["schema"] == "loco.localizations/1"
    assert [one["concept"]["subject"] for one in document["localizations"]] == [
        "van gogh",
        "snoopy",
    ]
    assert found.files == ()


def test_an_output_that_exists_is_found_before_the_model_loads(tmp_path):
    """
    A file that is in the way is refused at once, and with `force` only then replaced.
    """
    heard = RecordingListener()
    (tmp_path / "sheet.png").write_bytes(b"mine")

    with pytest.raises(OutputExists, match=r"sheet.png` exists"):
        localize.run(localize.plan(recipe_of(1), LocalizeOptions(tmp_path)), CPU, heard.events)

    assert heard.progressed == []
    assert (tmp_path / "sheet.png").read_bytes() == b"mine"


def test_a_window_that_holds_the_concept_is_named():
    """
    A window that does most of what all layers do is said to hold the concept, with its modules.
    """
    first, *paths = localization_sentences(localization([(7, 0.79), (8, 0.25)]))

    assert first == (
        "the concept is in layer 8 (layer_range: [8, 9]): "
        "swapping it has 92% of the effect of swapping all layers"
    )
    assert paths == ["layer 8 is m8"]


def test_a_best_window_that_is_weak_is_no_winner():
    """
    Where no window does half of what all layers do, the command says so.
    """
    first, *_ = localization_sentences(localization([(7, 0.79), (8, 0.65)]))

    assert first.startswith("no layer range holds `monet`: the best, layer 8 (")
    assert "has 25% of the effect" in first


def test_an_effect_that_was_missed_is_told():
    """
    Layers that do more than half, and less than was wanted, are named with what they lack.
    """
    found = localization([(7, 0.79), (8, 0.38)])

    missed, *_ = localization_sentences(found, 0.9)
    reached, *_ = localization_sentences(found, 0.7)

    assert missed == (
        "no layer range reaches `localize.effect` (90%): the best, layer 8 "
        "(layer_range: [8, 9]), has 70% of the effect of swapping all layers"
    )
    assert reached.startswith("the concept is in layer 8")


@pytest.mark.parametrize(
    ("pooled", "said"),
    [(None, None), (False, "only keys and values were swapped"), (True, "was swapped with every")],
)
def test_it_is_said_what_became_of_the_pooled_prompt(pooled, said):
    """
    Where a model pools its prompt past the layers, the last sentence tells whether it was swapped.
    """
    found = localization([(7, 0.79), (8, 0.25)]).model_copy(update={"pooled_swapped": pooled})

    _, first, *rest = localization_sentences(found)

    assert first == "layer 8 is m8"
    assert len(rest) == (pooled is not None)
    assert said is None or said in rest[0]


def test_a_vague_scale_is_told():
    """
    Where pictures of the full swap differ from seed to seed, so do all shares of it.
    """
    found = localization([(0, 0.75), (1, 0.3)])
    vague = found.model_copy(update={"scale_error": 0.1})

    said = " ".join(localization_sentences(vague, wanted=vague.effect))
    taken = " ".join(localization_sentences(vague, wanted=vague.effect + 0.05))

    assert "the concept is in layer 1" in said
    assert "every share has a relative error of 10%" in said
    assert "not clearly below" not in said
    assert "not clearly below" in taken
    assert "no layer range" not in taken
    assert "between seeds" not in " ".join(localization_sentences(found, wanted=0.9))


def test_a_concept_that_is_not_known_is_said_to_be_so():
    """
    Where even the full swap changes less than the noise there is nothing to find.
    """
    found = localization([(7, 0.79), (8, 0.65)], original=0.8, target=0.75, stderr=0.05)

    (sentence,) = localization_sentences(found)

    assert "swapping all layers barely changes the score (0.800 to 0.750)" in sentence
