"""`loco evaluate` on `tiny`: its pairs, figures and files."""

import json
from dataclasses import replace

import pytest
import torch

from loco_cli.commands import edit, evaluate
from loco_cli.commands.evaluate import EvaluateOptions, EvaluateResult
from loco_cli.editing.deltas import new_weights
from loco_cli.editing.methods import solve
from loco_cli.editing.neurons import rank_neurons
from loco_cli.errors import CheckFailed
from loco_cli.evaluating.judge import EvaluationContext, EvaluationPlan, Scorers, edited_pipeline
from loco_cli.evaluating.questions import UNRELATED_PROMPTS, Question, _Labels, questions
from loco_cli.evaluation import Evaluation
from loco_cli.models.session import RunOptions, load_judge, load_scorer
from loco_cli.outputs.paths import EditOptions
from loco_cli.protocol.everyday import N_JUDGED_PROMPTS
from loco_cli.recipe.load import load_recipe
from loco_cli.report.sentences import figures_sentence
from loco_cli.sampling.sample import sample, to_png
from tests.listeners import RecordingListener

CPU = RunOptions(device="cpu")
RECIPE = """
loco: 1
edits: [{kind: fact, subject: the british monarch, was: queen elizabeth, to: king charles}]
edit: {layers: [6, 7]}
evaluate: {seeds: 1, steps: 1, keep: [a bicycle on a bridge]}
"""


@pytest.fixture(scope="module")
def recipe():
    return load_recipe(RECIPE, "fact.yaml")


@pytest.fixture(scope="module")
def in_memory(recipe, tmp_path_factory) -> EvaluateResult:
    """The recipe's edit made in memory and evaluated, with its files; only read."""
    output = tmp_path_factory.mktemp("evaluation") / "found"
    return evaluate.run(
        evaluate.plan(
            recipe, EvaluateOptions(output=output, command=("loco", "evaluate", "fact.yaml"))
        ),
        CPU,
    )


def test_same_result_in_memory_and_from_files(recipe, in_memory, tmp_path):
    """
    An edit gives the same document from files and in memory.
    """
    edit.run(edit.plan(recipe, EditOptions(tmp_path / "edited")), CPU)

    from_files = evaluate.run(
        evaluate.plan(recipe, EvaluateOptions(edited=str(tmp_path / "edited"))), CPU
    )

    assert from_files.evaluation == in_memory.evaluation
    assert from_files.files == ()


def test_rows_of_an_evaluation(recipe, in_memory, tiny):
    """
    The document has a row for each prompt, in order, and the seeds.
    """
    asked = questions(tiny.spec, recipe)

    result = in_memory.evaluation

    assert [row.prompt for row in result.forget] == [q.prompt for q in asked if q.edit is not None]
    assert [row.prompt for row in result.keep] == [q.prompt for q in asked if q.edit is None]
    assert result.seeds == (1000,)
    for row in result.forget:
        assert {row.recognised_before, row.recognised_after, row.became} <= {0.0, 1.0}


def test_prompts_without_labels(in_memory):
    """
    Unrelated prompts are scored but not judged.
    """
    rows = {row.prompt: row for row in in_memory.evaluation.keep if row.recognised_before is None}

    assert "a bicycle on a bridge" in rows
    assert [row.concept for row in rows.values()].count(UNRELATED_PROMPTS) == N_JUDGED_PROMPTS
    assert all(row.recognised_after is None and -1 <= row.before <= 1 for row in rows.values())


def test_files_of_an_evaluation(in_memory):
    """
    The written document is the result of the command, beside its sheet and report.
    """
    document, sheet, report = in_memory.files

    assert json.loads(document.read_text()) == in_memory.evaluation.to_json()
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert "king charles" in report.read_text()


def test_weights_after_an_edit_in_memory(tiny, pipeline, encoder, recipe):
    """
    An edit in memory has the weights of a written edit, and is undone afterwards.
    """
    before = {k: v.clone() for k, v in pipeline.pipe.unet.state_dict().items()}
    solved = solve(tiny, recipe, ((6, 7),), encoder)

    with edited_pipeline(pipeline, tiny, solved):
        inside = {k: v.clone() for k, v in pipeline.pipe.unet.state_dict().items()}

    stored = {slot.name: new.float() for slot, new, _ in new_weights(tiny, solved)}
    for name, value in pipeline.pipe.unet.state_dict().items():
        assert torch.equal(value, before[name])
        assert torch.equal(inside[name], stored.get(name, before[name]))


def test_shared_images_of_the_base(recipe, in_memory, tiny, pipeline, encoder):
    """
    Edits judged in one context share the images of the base, and get the same figures as alone.
    """
    listener = RecordingListener()
    scorer = load_scorer(tiny, CPU)
    scorers = Scorers(scorer, load_judge(tiny, CPU, scorer))
    context = EvaluationContext(tiny, pipeline, scorers, batch_size=8, events=listener.events)
    whole = EvaluationPlan.of(tiny.spec, recipe)
    plan = replace(whole, questions=whole.questions[:4])

    other = context.judge(plan, solve(tiny, recipe, ((2, 3),), encoder)).evaluation
    result = context.judge(plan, solve(tiny, recipe, ((6, 7),), encoder)).evaluation

    begun = [progress.stage for progress in listener.progressed if progress.done == 0]
    assert begun == ["pictures before", "pictures after", "pictures after"]
    assert [row.before for row in other.forget] == [row.before for row in result.forget]
    for mine, theirs in zip(result.forget, in_memory.evaluation.forget, strict=True):
        assert mine.model_dump() == pytest.approx(theirs.model_dump(), abs=1e-4)


def test_recognition(tiny):
    """
    An image is recognised if its own prompt is the best label, and became the target if that is.
    """
    scorer = load_scorer(tiny, CPU)
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    labels = ("a cat", "a dog", "a house")
    best = scorer.best_label(image[None], labels)[0]
    right = (labels[best], *(text for text in labels if text != labels[best]))

    def judged(texts, target):
        question = Question("a cat", "a cat", "object", 0, _Labels(texts, target))
        return Scorers(scorer, scorer).judge_pair(question, image, image)

    assert judged(right, 1).recognised_after
    assert judged(right, 1).became is False
    assert judged(right[::-1], 2).recognised_before is False
    assert judged(right[::-1], 2).became
    assert judged(right, None).became is None


def test_empty_prompt_as_label(tiny):
    """
    If the empty prompt fits the image of the base best, it is not a label of that image.
    """
    scorer = load_scorer(tiny, CPU)
    noise = torch.rand(64, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    names = ("a cat", "a dog", "a house")
    called = zip(noise, scorer.best_label(noise, (*names, "")), strict=True)
    image = next(image for image, label in called if label == len(names))
    best = scorer.best_label(image[None], names)[0]
    texts = (names[best], *(text for text in names if text != names[best]), "")

    question = Question("a cat", "a cat", "object", 0, _Labels(texts, len(names)))
    result = Scorers(scorer, scorer).judge_pair(question, image, image)

    assert result.recognised_before
    assert result.recognised_after
    assert result.became is False


def evaluation(**figures):
    known = {"forgotten": 1.0, "became": 0.5, "kept": 0.9, "harmonic_mean": 0.7, **figures}
    return Evaluation(forget=(), keep=(), seeds=(1000,), **known)


def test_figure_below_its_limit(golden):
    """
    Each figure below its limit is a failure.
    """
    failures = evaluate._failures(evaluation(), {"became": 0.9, "kept": 0.9})

    assert len(failures) == 1
    with golden.raises(CheckFailed, "became", "0.500", "0.9"):
        EvaluateResult(evaluation(), (), failures).raise_failures()


def test_undefined_figure(golden):
    """
    A metric that is undefined, since the judge recognises no image of the base, is a failure.
    """
    (failure,) = evaluate._failures(evaluation(kept=None, harmonic_mean=None), {})

    golden(failure)
    assert evaluate._failures(evaluation(), {}) == ()
    EvaluateResult(evaluation(), (), ()).raise_failures()


def test_sentence_of_figures(golden):
    """
    Figures have their intervals, and an undefined figure is a dash.
    """
    figures = evaluation(became=None, harmonic_mean=None, intervals={"kept": (0.8, 0.95)})

    golden(figures_sentence(figures))


def test_neurons_held_at_inference(tiny, pipeline, encoder):
    """
    With `edit.hold: inference`, the images after the edit are generated with fixed channels.
    """
    text = RECIPE.replace("{layers: [6, 7]}", "{method: neurons, layers: [7], hold: inference}")
    recipe = load_recipe(text, "held.yaml")
    channels = tuple(one.fixed for one in rank_neurons(tiny, recipe, ((7,),), encoder)[0])
    scorer = load_scorer(tiny, CPU)
    context = EvaluationContext(tiny, pipeline, Scorers(scorer, load_judge(tiny, CPU, scorer)), 8)
    plan = replace(EvaluationPlan.of(tiny.spec, recipe), steps=1)
    plan = replace(plan, questions=plan.questions[:2])

    held = context.judge_fixed_channels(plan, channels)

    runs = [replace(run, fixed=channels) for run in plan.runs]
    options = {"steps": 1, "guidance": plan.guidance, "batch_size": 8}
    drawn = [to_png(image) for image in sample(pipeline, runs, **options)]
    assert [picture.after for picture in held.pictures] == drawn
    assert all(picture.after != picture.before for picture in held.pictures)
    solved = context.judge(plan, solve(tiny, recipe, ((7,),), encoder))
    assert [picture.after for picture in solved.pictures] != drawn
