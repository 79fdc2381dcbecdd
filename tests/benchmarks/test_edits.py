"""The prompts and counts of the edit benchmark, which is run by hand."""

import argparse
from dataclasses import replace

from loco_cli.evaluating.judge import EvaluationRun
from loco_cli.evaluation import BeforeAfter, Evaluation, ForgetImages, JudgedImage, KeepImages
from loco_cli.families import registry
from loco_cli.protocol.wordings import EDIT_TEMPLATES, FORGET_TEMPLATES, LOCALIZE_TEMPLATES
from tests.benchmarks.edits import CHOOSING, exam_of, recipe_of, settings_of
from tests.benchmarks.outcome import (
    Outcome,
    Trial,
    append_outcome,
    beside,
    kept_shares,
    read_outcomes,
    summary,
)
from tests.benchmarks.world import chosen_entries, entries

TINY = registry.get("tiny")
ENTRIES = entries()


def outcome(subject="monet", **figures):
    known = {"forgotten": 1.0, "became": 1.0, "kept": 1.0, "kept_others": 1.0, **figures}
    return Outcome(
        trial=Trial("tiny", "paper", "key", "style", subject, "painting", 4, False),
        layers=(8, 9),
        effect=None,
        ridge=0.01,
        moved=0.5,
        base=1.0,
        kept_preserved=None,
        seconds=1.0,
        **known,
    )


def test_the_papers_form_is_exact():
    """
    The paper's form edits the last subject token with ridge 0.01 and preserves nothing; keys after
    the name of a form override it.
    """
    recipe = recipe_of(ENTRIES[0], "tiny", settings_of("paper"), 4)
    other = recipe_of(ENTRIES[0], "tiny", settings_of("paper edit.ridge=0.5x"), 4)

    assert (recipe.edit.tokens, recipe.preserve) == ("last-subject", "none")
    assert (recipe.edit.ridge.value, recipe.edit.ridge.is_relative) == (0.01, False)
    assert (other.edit.ridge.value, other.edit.ridge.is_relative) == (0.5, True)
    assert other.edit.tokens == "last-subject"


def test_forms_are_chosen_on_separate_prompts_and_seeds():
    """
    The prompts and seeds that choose a form do not localize, edit or evaluate.
    """
    tables = (EDIT_TEMPLATES, FORGET_TEMPLATES, LOCALIZE_TEMPLATES)

    for entry in ENTRIES:
        recipe = recipe_of(entry, "tiny", (), 4)
        judging = exam_of(TINY, recipe, is_choosing=False)
        choosing = exam_of(TINY, recipe, is_choosing=True)

        used = {template for table in tables for template in table[entry.kind]}
        assert not used & set(CHOOSING[entry.kind])
        prompts = {question.prompt for question in judging.questions}
        assert not prompts & {question.prompt for question in choosing.questions}
        assert not set(judging.seeds) & set(choosing.seeds)
        labelled = {question.concept for question in judging.questions if question.labels}
        assert labelled == {question.concept for question in choosing.questions}


def test_shards_partition_the_concepts():
    """
    Exactly one process measures each concept.
    """
    options = {"kind": None, "subject": None}
    parts = [
        chosen_entries(argparse.Namespace(**options, shard=f"{index}/3")) for index in range(3)
    ]

    assert sorted(e.subject for part in parts for e in part) == sorted(e.subject for e in ENTRIES)
    assert len(ENTRIES) == 26


def test_what_is_kept_is_split_by_the_preserve_set():
    """
    A kept concept belongs to the preserve set if a preserved prompt contains its name in whole
    words; pictures that the base draws wrongly do not count.
    """
    verdicts = {"monet": (True, True), "klimt": (True, False), "a cat": (False, False)}
    keep = [
        KeepImages(name, f"a boat by {name}", (JudgedImage(0.3, 0.3, *verdict),))
        for name, verdict in verdicts.items()
    ]
    forget = [ForgetImages(0, "style", "seurat", (JudgedImage(0.3, 0.1, True, False, True),))]
    pictures = tuple(
        BeforeAfter("keep", one.prompt, 1000, b"", b"", 0.3, 0.3, *verdicts[one.concept])
        for one in keep
    )
    judged = EvaluationRun(Evaluation.of(forget, keep, (1000,)), pictures)

    assert kept_shares(judged, ("a boat, monet style", "a catalogue")) == (1.0, 0.0)
    assert kept_shares(judged, ()) == (None, 0.5)


def test_outcomes_are_read_as_they_were_written(tmp_path):
    """
    Outcomes are appended line by line, and a missing file contains none.
    """
    path = tmp_path / "new" / "edits.jsonl"
    both = [outcome(), outcome("klimt", became=None)]

    for one in both:
        append_outcome(path, one)

    assert read_outcomes([path, tmp_path / "none.jsonl"]) == both


def test_an_unknown_figure_misses_its_target():
    """
    The mean leaves out an unknown figure, and the count of successes excludes it.
    """
    rows = summary([outcome(), outcome("klimt", became=None), outcome("picasso", kept=0.9)])

    *_, row = rows.splitlines()
    assert row == (
        "| tiny | paper | key | style | 1.00 | 1.00 | 0.97 | – | 1.00 | 0.99 | 1 of 3 | 0.50 |"
    )


def test_windows_and_sets_are_compared_in_columns():
    """
    A concept is a row and a choice of layers a column; a missing measurement is a dash.
    """
    window = outcome(forgotten=0.25)
    chosen = replace(window, trial=replace(window.trial, where="set"), layers=(0, 3), effect=0.91)

    text = beside([window, chosen, outcome(subject="klimt")])

    assert "| kind | concept | key | set |" in text
    row = "| style | monet | 8, 9 (–): 0.25 / 1.00 / 1.00 | 0, 3 (0.91): 0.25 / 1.00 / 1.00 |"
    assert row in text
    assert "| style | klimt | 8, 9 (–): 1.00 / 1.00 / 1.00 | – |" in text
