"""Evaluations of the model that ships: what is paired, counted and written."""

import json
from dataclasses import replace

import pytest
import torch

from loco_cli.commands import edit, evaluate
from loco_cli.commands.evaluate import EvaluateOptions, EvaluateResult
from loco_cli.editing.deltas import new_weights
from loco_cli.editing.methods import solve
from loco_cli.editing.neurons import rank_neurons
from loco_cli.errors import CheckFailed, OutputExists, RequestError
from loco_cli.evaluating.judge import EvaluationContext, EvaluationPlan, Scorers, edited_pipeline
from loco_cli.evaluating.questions import UNRELATED_PROMPTS, Question, _Labels, questions
from loco_cli.evaluation import Evaluation
from loco_cli.models.session import RunOptions, load_judge, load_scorer
from loco_cli.outputs.paths import EditOptions
from loco_cli.protocol.everyday import N_JUDGED_PROMPTS
from loco_cli.recipe.load import load_recipe
from loco_cli.report.sentences import figures_sentence
from loco_cli.sampling.sample import sample, to_png
from tests.checkpoints import sd1_weights, write_folder
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


def test_a_written_edit_is_evaluated_like_one_in_memory(recipe, in_memory, tmp_path):
    """
    The same edit gives the same document, read from files or made in memory.
    """
    edit.run(edit.plan(recipe, EditOptions(tmp_path / "edited")), CPU)

    from_files = evaluate.run(
        evaluate.plan(recipe, EvaluateOptions(edited=str(tmp_path / "edited"))), CPU
    )

    assert from_files.evaluation == in_memory.evaluation
    assert from_files.files == ()


def test_every_question_is_a_row(recipe, in_memory, tiny):
    """
    The document has a row per prompt, in the order of the questions, and the seeds it used.
    """
    asked = questions(tiny.spec, recipe)

    found = in_memory.evaluation

    assert [row.prompt for row in found.forget] == [q.prompt for q in asked if q.edit is not None]
    assert [row.prompt for row in found.keep] == [q.prompt for q in asked if q.edit is None]
    assert found.seeds == (1000,)
    for row in found.forget:
        assert {row.recognised_before, row.recognised_after, row.became} <= {0.0, 1.0}


def test_a_prompt_without_labels_has_scores_alone(in_memory):
    """
    An unrelated prompt is scored and not judged.
    """
    rows = {row.prompt: row for row in in_memory.evaluation.keep if row.recognised_before is None}

    assert "a bicycle on a bridge" in rows
    assert [row.concept for row in rows.values()].count(UNRELATED_PROMPTS) == N_JUDGED_PROMPTS
    assert all(row.recognised_after is None and -1 <= row.before <= 1 for row in rows.values())


def test_document_sheet_and_report_are_written(in_memory):
    """
    The file is what the command would print.
    """
    document, sheet, report = in_memory.files

    assert json.loads(document.read_text()) == in_memory.evaluation.to_json()
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert "king charles" in report.read_text()


def test_an_edit_in_memory_leaves_no_trace(tiny, pipeline, encoder, recipe):
    """
    The weights of the pipeline are afterwards what they were, and inside those of the file.
    """
    before = {k: v.clone() for k, v in pipeline.pipe.unet.state_dict().items()}
    solved = solve(tiny, recipe, ((6, 7),), encoder)

    with edited_pipeline(pipeline, tiny, solved):
        inside = {k: v.clone() for k, v in pipeline.pipe.unet.state_dict().items()}

    stored = {slot.name: new.float() for slot, new, _ in new_weights(tiny, solved)}
    for name, value in pipeline.pipe.unet.state_dict().items():
        assert torch.equal(value, before[name])
        assert torch.equal(inside[name], stored.get(name, before[name]))


def test_a_bench_draws_a_model_once(recipe, in_memory, tiny, pipeline, encoder):
    """
    Edits judged on one bench share the pictures before, and are judged as each by itself.
    """
    heard = RecordingListener()
    scorer = load_scorer(tiny, CPU)
    scorers = Scorers(scorer, load_judge(tiny, CPU, scorer))
    bench = EvaluationContext(tiny, pipeline, scorers, batch_size=8, events=heard.events)
    whole = EvaluationPlan.of(tiny.spec, recipe)
    exam = replace(whole, questions=whole.questions[:4])

    other = bench.judge(exam, solve(tiny, recipe, ((2, 3),), encoder)).evaluation
    found = bench.judge(exam, solve(tiny, recipe, ((6, 7),), encoder)).evaluation

    begun = [progress.stage for progress in heard.progressed if progress.done == 0]
    assert begun == ["pictures before", "pictures after", "pictures after"]
    assert [row.before for row in other.forget] == [row.before for row in found.forget]
    for mine, theirs in zip(found.forget, in_memory.evaluation.forget, strict=True):
        assert mine.model_dump() == pytest.approx(theirs.model_dump(), abs=1e-4)


def test_the_first_label_is_right(tiny):
    """
    A picture is recognised where the judge calls it by its own prompt, and became the target
    where it calls it that.
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


def test_the_empty_prompt_takes_no_picture_from_its_own_name(tiny):
    """
    Where the empty prompt fits a picture best before the edit, it is no label of that picture: an
    unedited copy is recognised as before.
    """
    scorer = load_scorer(tiny, CPU)
    noise = torch.rand(64, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    names = ("a cat", "a dog", "a house")
    called = zip(noise, scorer.best_label(noise, (*names, "")), strict=True)
    image = next(image for image, label in called if label == len(names))
    best = scorer.best_label(image[None], names)[0]
    texts = (names[best], *(text for text in names if text != names[best]), "")

    question = Question("a cat", "a cat", "object", 0, _Labels(texts, len(names)))
    found = Scorers(scorer, scorer).judge_pair(question, image, image)

    assert found.recognised_before
    assert found.recognised_after
    assert found.became is False


def evaluation(**figures):
    known = {"forgotten": 1.0, "became": 0.5, "kept": 0.9, "harmonic_mean": 0.7, **figures}
    return Evaluation(forget=(), keep=(), seeds=(1000,), **known)


def test_a_figure_under_its_limit_fails():
    """
    Every limit that is missed is named, with both numbers.
    """
    failures = evaluate._failures(evaluation(), {"became": 0.9, "kept": 0.9})

    assert failures == ("`became` is 0.500 (limit 0.9)",)
    with pytest.raises(CheckFailed, match=r"`became` is 0\.500 \(limit 0\.9\)"):
        EvaluateResult(evaluation(), (), failures).raise_failures()


def test_a_figure_that_could_not_be_counted_fails():
    """
    Where the base gets nothing right there is no figure, and that is said.
    """
    failures = evaluate._failures(evaluation(kept=None, harmonic_mean=None), {})

    assert failures == ("the base gets nothing right that `kept` could be counted over",)
    assert evaluate._failures(evaluation(), {}) == ()
    EvaluateResult(evaluation(), (), ()).raise_failures()


def test_figures_are_one_line():
    """
    Each has its interval behind it; a figure that is not known is a dash.
    """
    figures = evaluation(became=None, harmonic_mean=None, intervals={"kept": (0.8, 0.95)})

    assert figures_sentence(figures) == (
        "forgotten 1.00, became –, kept 0.90 (0.80–0.95), harmonic mean –"
    )


def test_a_checkpoint_of_other_shapes_is_no_edit(recipe, tmp_path):
    """
    What was not made from the base cannot be compared with it.
    """
    other = write_folder(tmp_path / "other", sd1_weights())

    with pytest.raises(RequestError, match="is no edit of `tiny`: their layers have other shapes"):
        evaluate.run(evaluate.plan(recipe, EvaluateOptions(edited=str(other))), CPU)


def test_an_output_that_exists_is_found_before_the_model_loads(recipe, tmp_path):
    """
    A file that is in the way is refused before anything is solved or drawn.
    """
    heard = RecordingListener()
    (tmp_path / "report.html").write_text("mine")

    with pytest.raises(OutputExists, match=r"report.html` exists"):
        evaluate.run(evaluate.plan(recipe, EvaluateOptions(output=tmp_path)), CPU, heard.events)

    assert heard.progressed == []


def test_held_neurons_are_judged_as_they_are_drawn(tiny, pipeline, encoder):
    """
    With `edit.hold: inference` the pictures after are those of the channels held, which the new
    weights of the same edit only come near to.
    """
    text = RECIPE.replace("{layers: [6, 7]}", "{method: neurons, layers: [7], hold: inference}")
    recipe = load_recipe(text, "held.yaml")
    channels = tuple(one.fixed for one in rank_neurons(tiny, recipe, ((7,),), encoder)[0])
    scorer = load_scorer(tiny, CPU)
    bench = EvaluationContext(tiny, pipeline, Scorers(scorer, load_judge(tiny, CPU, scorer)), 8)
    exam = replace(EvaluationPlan.of(tiny.spec, recipe), steps=1)
    exam = replace(exam, questions=exam.questions[:2])

    held = bench.judge_fixed_channels(exam, channels)

    runs = [replace(run, fixed=channels) for run in exam.runs]
    options = {"steps": 1, "guidance": exam.guidance, "batch_size": 8}
    drawn = [to_png(image) for image in sample(pipeline, runs, **options)]
    assert [picture.after for picture in held.pictures] == drawn
    assert all(picture.after != picture.before for picture in held.pictures)
    solved = bench.judge(exam, solve(tiny, recipe, ((7,),), encoder))
    assert [picture.after for picture in solved.pictures] != drawn
