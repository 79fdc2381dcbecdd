"""Causal tracing: its files and its sentences."""

import json

import pytest

from loco_cli.commands import localize
from loco_cli.commands.localize import LocalizeOptions
from loco_cli.localization import ConceptName, ModelName
from loco_cli.localizing import causal_trace
from loco_cli.models.session import RunOptions
from loco_cli.recipe.load import load_recipe
from loco_cli.report.trace import trace_sentences
from loco_cli.trace import Trace, TraceScore

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
def test_files_of_a_trace(tmp_path, tiny, component):
    """
    The written document is the result of the command, and its cost is that of the plan.
    """
    recipe = recipe_of(component)

    result = localize.run(
        localize.plan(recipe, LocalizeOptions(tmp_path / "found", command=("loco", "localize"))),
        CPU,
    )

    assert [path.name for path in result.files] == ["localization.json", "sheet.png", "report.html"]
    document = json.loads((tmp_path / "found" / "localization.json").read_text())
    assert document == result.to_json()
    assert document["schema"] == "loco.trace/1"
    assert Trace.model_validate(document) == result.traces[0]
    cost, _ = causal_trace.cost(tiny, recipe, batch_size=16)
    assert document["unet_evaluations"] == cost.unet_evaluations
    page = (tmp_path / "found" / "report.html").read_text()
    assert document["scores"][0]["module_path"] in page
    assert page.count("data:image/png") == 3
    assert (tmp_path / "found" / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_tokens_before_the_subject(tmp_path):
    """
    In a causal encoder, tokens before the subject restore exactly nothing.
    """
    (result,) = localize.run(localize.plan(recipe_of()), CPU).traces

    tokens = [one.token for one in result.scores if one.index == 0 and one.kind == "mlp"]
    assert tokens == [
        "start", "subject-3", "subject-2", "subject-1", "last subject", "end", "padding",
    ]  # fmt: skip
    before = [one for one in result.scores if one.token in tokens[:4]]
    assert {one.indirect_effect for one in before} == {0.0}
    assert {one.score for one in before} == {result.corrupted_score}
    assert any(one.indirect_effect for one in result.scores)


def test_best_cross_attention(golden):
    """
    The sentences name the best cross-attention, since residual states are not edited.
    """
    unet = {"component": "unet", "token": None}
    stream = score(0.7, 21).model_copy(update={**unet, "kind": "resnet"})
    crossed = score(0.6, 9).model_copy(update={**unet, "kind": "cross-attention"})

    result = traced(crossed, stream)

    golden(trace_sentences(result)[-1])
    family = ModelName(name="deepfloyd", family="if")
    assert len(trace_sentences(result.model_copy(update={"model": family}))) == 2


def test_result_of_a_trace(golden):
    """
    A sentence names the best state, a result without one, or noise without effect.
    """
    for result in (
        traced(score(0.3), score(0.6, 1)),
        traced(score(0.3, token="padding")),
        traced(score(0.3), clean=0.21),
    ):
        golden(trace_sentences(result)[0])
