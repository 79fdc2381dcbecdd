"""`loco localize`: its files and its sentences."""

import json

from loco_cli.commands import localize
from loco_cli.commands.localize import LocalizeOptions
from loco_cli.localization import ConceptName, LayerName, Localization, ModelName, WindowScore
from loco_cli.models.session import RunOptions
from loco_cli.recipe.load import load_recipe
from loco_cli.report.localization import localization_sentences

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
    """Return a localization in which each range is one layer, with the given score."""
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


def test_files_of_one_concept(tmp_path):
    """
    The written document is the result of the command, beside its sheet and report.
    """
    result = localize.run(
        localize.plan(
            recipe_of(1), LocalizeOptions(tmp_path / "found", command=("loco", "localize"))
        ),
        CPU,
    )

    assert [path.name for path in result.files] == ["localization.json", "sheet.png", "report.html"]
    document = json.loads((tmp_path / "found" / "localization.json").read_text())
    assert document == result.to_json()
    assert document["schema"] == "loco.localization/1"
    assert (tmp_path / "found" / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert "van gogh" in (tmp_path / "found" / "report.html").read_text()


def test_several_concepts():
    """
    A recipe with several edits gives `loco.localizations/1`; without an output no file is written.
    """
    result = localize.run(localize.plan(recipe_of(2)), CPU)

    document = result.to_json()
    assert document["schema"] == "loco.localizations/1"
    assert [one["concept"]["subject"] for one in document["localizations"]] == [
        "van gogh",
        "snoopy",
    ]
    assert result.files == ()


def test_layers_that_hold_the_concept(golden):
    """
    Layers with most of the full effect hold the concept, and are named with their modules.
    """
    golden("\n".join(localization_sentences(localization([(7, 0.79), (8, 0.25)]))))


def test_weak_layers(golden):
    """
    Layers with less than half of the full effect do not hold the concept.
    """
    golden("\n".join(localization_sentences(localization([(7, 0.79), (8, 0.65)]))))


def test_layers_below_the_wanted_effect(golden):
    """
    Layers between half and the wanted effect are named with their effect.
    """
    result = localization([(7, 0.79), (8, 0.38)])

    for wanted in (0.9, 0.7):
        golden(localization_sentences(result, wanted)[0])


def test_pooled_embedding(golden):
    """
    If a model has a pooled embedding, the last sentence says if it was swapped.
    """
    result = localization([(7, 0.79), (8, 0.25)])
    plain = localization_sentences(result)

    for is_swapped in (False, True):
        pooled = result.model_copy(update={"pooled_swapped": is_swapped})
        *first, last = localization_sentences(pooled)
        assert list(first) == list(plain)
        golden(last)


def test_uncertain_scale(golden):
    """
    The sentences give the error of the full effect, and if the result depends on it.
    """
    result = localization([(0, 0.75), (1, 0.3)])
    vague = result.model_copy(update={"scale_error": 0.1})

    golden("\n".join(localization_sentences(vague, wanted=vague.effect)))
    golden("\n".join(localization_sentences(vague, wanted=vague.effect + 0.05)))
    golden("\n".join(localization_sentences(result, wanted=0.9)))


def test_unknown_concept(golden):
    """
    A full swap within the noise means that the model does not know the concept.
    """
    result = localization([(7, 0.79), (8, 0.65)], original=0.8, target=0.75, stderr=0.05)

    (sentence,) = localization_sentences(result)

    golden(sentence)
