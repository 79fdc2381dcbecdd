"""Causal tracing from a recipe to its document, its pages and its sentences."""

import json

import pytest

from loco_cli.commands import edit, localize
from loco_cli.commands.localize import LocalizeOptions
from loco_cli.errors import OutputExists, RequestError
from loco_cli.localization import ConceptName, ModelName
from loco_cli.localizing import causal_trace
from loco_cli.models.session import RunOptions
from loco_cli.outputs.paths import EditOptions
from loco_cli.recipe.load import load_recipe
from loco_cli.report.trace import trace_sentences
from loco_cli.trace import Trace, TraceScore
from tests.listeners import RecordingListener

RECIPE = """
loco: 1
edits:
  - {{kind: style, subject: monet, source: ["a house by {{subject}}"]}}
localize:
  {{method: causal-trace, component: {component}, noise: 10, seeds: 1, steps: 1, guidance: 1}}
"""
CPU = RunOptions(device="cpu", batch_size=16)


def recipe_of(component="text-encoder"):
    return load_recipe(RECIPE.format(component=component), "r.yaml")


def score(value, index=0, token="last subject", stderr=0.01):
    return TraceScore(
        component="text_encoder",
        module_path=f"m{index}",
        token=token,
        kind="self-attention",
        index=index,
        score=value,
        std=0.0,
        stderr=stderr,
        indirect_effect=value - 0.2,
        indirect_effect_stderr=stderr,
        n=1,
    )


def traced(*scores, clean=0.7, stderr=0.01):
    return Trace(
        model=ModelName(name="tiny", family="sd1"),
        concept=ConceptName(kind="style", subject="monet", to="painting"),
        component="text-encoder",
        noise=3.0,
        scores=scores,
        clean_score=clean,
        clean_stderr=stderr,
        corrupted_score=0.2,
        corrupted_stderr=stderr,
        prompts=("a house by monet",),
        seeds=(0,),
        steps=1,
        guidance=1.0,
        scorer="tiny",
        unet_evaluations=0,
        seconds=0.0,
    )


@pytest.mark.parametrize("component", ["text-encoder", "unet"])
def test_a_trace_is_a_document_a_sheet_and_a_page(tmp_path, tiny, component):
    """
    The file is what the command prints, it can be read back, and its price was told before.
    """
    recipe = recipe_of(component)

    found = localize.run(
        localize.plan(recipe, LocalizeOptions(tmp_path / "found", command=("loco", "localize"))),
        CPU,
    )

    assert [path.name for path in found.files] == ["localization.json", "sheet.png", "report.html"]
    document = json.loads((tmp_path / "found" / "localization.json").read_text())
    assert document == found.to_json()
    assert document["schema"] == "loco.trace/1"
    assert Trace.model_validate(document) == found.traces[0]
    cost, _ = causal_trace.cost(tiny, recipe, batch_size=16)
    assert document["unet_evaluations"] == cost.unet_evaluations
    page = (tmp_path / "found" / "report.html").read_text()
    assert document["scores"][0]["module_path"] in page
    assert page.count("data:image/png") == 3
    assert (tmp_path / "found" / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_what_stands_before_the_subject_scores_as_corrupted(tmp_path):
    """
    Behind a causal encoder nothing before the subject gives anything back, exactly.
    """
    (found,) = localize.run(localize.plan(recipe_of()), CPU).traces

    tokens = [one.token for one in found.scores if one.index == 0 and one.kind == "mlp"]
    assert tokens == [
        "start", "subject-3", "subject-2", "subject-1", "last subject", "end", "padding",
    ]  # fmt: skip
    before = [one for one in found.scores if one.token in tokens[:4]]
    assert {one.indirect_effect for one in before} == {0.0}
    assert {one.score for one in before} == {found.corrupted_score}
    assert any(one.indirect_effect for one in found.scores)


def test_the_best_cross_attention_is_named():
    """
    Resnets hand on all there is and restore by themselves; an edit is made in cross-attentions.
    """
    unet = {"component": "unet", "token": None}
    stream = score(0.7, 21).model_copy(update={**unet, "kind": "resnet"})
    crossed = score(0.6, 9).model_copy(update={**unet, "kind": "cross-attention"})

    found = traced(crossed, stream)

    *_, last = trace_sentences(found)
    assert last == (
        "among the cross-attentions, which edits change, layer 9 recovers most: 80%, m9"
    )
    family = ModelName(name="deepfloyd", family="if")
    assert len(trace_sentences(found.model_copy(update={"model": family}))) == 2


def test_an_edit_cannot_be_made_where_a_trace_points(tmp_path):
    """
    A recipe that traces is refused by `edit` where layers would have to be found, in one sentence.
    """
    with pytest.raises(RequestError, match="names states, and no layers"):
        edit.run(edit.plan(recipe_of(), EditOptions(tmp_path / "out")), CPU)

    assert not (tmp_path / "out").exists()


def test_an_output_that_exists_is_found_before_the_model_loads(tmp_path):
    """
    A file that is in the way is refused at once.
    """
    heard = RecordingListener()
    (tmp_path / "sheet.png").write_bytes(b"mine")

    with pytest.raises(OutputExists, match=r"sheet.png` exists"):
        localize.run(localize.plan(recipe_of(), LocalizeOptions(tmp_path)), CPU, heard.events)

    assert heard.progressed == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            traced(score(0.3), score(0.6, 1)),
            "restoring self-attention of block 1 of the text_encoder at the last subject token "
            "recovers 80% of the score lost to noise (0.700 to 0.200)",
        ),
        (traced(score(0.3, token="padding")), "no single state holds the concept: the best, "),
        (traced(score(0.3), clean=0.21), "noise on the subject barely changes the score"),
    ],
)
def test_a_trace_says_what_it_found(found, said):
    """
    One sentence: the state, or that there is none, or that the noise did too little.
    """
    assert trace_sentences(found)[0].startswith(said)
