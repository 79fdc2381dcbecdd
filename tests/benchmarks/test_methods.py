"""The setup, prompts and counts of the method benchmark, which is run by hand."""

import pytest
import torch

from loco_cli.editing.keys import AlignedPair
from loco_cli.evaluation import _interval
from loco_cli.families import registry
from tests.benchmarks import published
from tests.benchmarks.marks import Measured, append_row, read_rows, table
from tests.benchmarks.methods import METHODS, exams_of, recipe_of
from tests.benchmarks.world import entries, groups_of

TINY = registry.get("tiny")


def row(method="UCE", forgotten=((True, False),), subjects=("monet",), kind="style"):
    return Measured(
        model="tiny",
        method=method,
        subjects=subjects,
        kinds=(kind,) * len(subjects),
        n_seeds=2,
        layers=((8, 9),),
        share_changed=0.01,
        seconds=0.5,
        forgotten=forgotten,
        became=((True, True),),
        kept=((True,), (True,)),
    )


@pytest.mark.parametrize("formula", [published.LOCOEDIT, published.TIME, published.UCE])
def test_a_published_form_minimizes_its_objective(formula):
    """
    At the new weight, the gradient of the form's objective is zero:
    edit |W'K - WT|^2 + keep |W'P - WP|^2 + ridge |W' - W|^2.
    """
    generator = torch.Generator().manual_seed(0)
    keys, targets, kept = (torch.randn(n, 8, generator=generator) for n in (3, 3, 5))
    weight = torch.randn(4, 8, generator=generator, dtype=torch.float64)
    left, right = published.Published(formula, keys, targets, kept).change(weight)

    new = (weight + left @ right).requires_grad_()
    keys, targets, kept = keys.double(), targets.double(), kept.double()
    objective = (
        formula.edit * (new @ keys.T - weight @ targets.T).square().sum()
        + formula.keep * (new @ kept.T - weight @ kept.T).square().sum()
        + formula.ridge * (new - weight).square().sum()
    )
    objective.backward()

    assert new.grad.norm() < 1e-9
    assert (new - weight).norm() > 0.1


@pytest.mark.parametrize(("tokens", "n_rows"), [("last", 1), ("all", 5)])
def test_a_published_form_reads_its_tokens(tokens, n_rows):
    """
    The last subject token is paired with the target's last word, or every token with its own.
    """
    source, target = torch.arange(5.0)[:, None], 10 + torch.arange(5.0)[:, None]
    pair = AlignedPair(source, target, subject=(1, 2), source_end=3, target_end=2)

    keys, targets = published._rows(pair, published.Formula(tokens, 1, 0, 0.1))

    assert len(keys) == len(targets) == n_rows
    at = keys[:, 0].tolist().index(2.0)
    assert targets[at, 0] == 11.0  # the word before the end


def test_every_method_has_the_same_prompts():
    """
    Every method is judged on four wordings to forget and on half of the other concepts.
    """
    (group,) = groups_of(entries(subjects=["monet"]), 1)

    runs = {
        tuple(exam.runs for exam in exams_of(TINY, recipe_of(group, "tiny", one.settings), 4))
        for one in METHODS.values()
    }

    ((forget, keep),) = runs
    assert len(forget) == 4 * 4
    assert len({run.seed for run in keep}) == 1
    assert len({run.prompt for run in keep}) == len(keep) > 5


def test_groups_mix_kinds_and_do_not_clash():
    """
    No edit of a group removes the target of another, and no concept is in two groups.
    """
    for size in (1, 3, 5, 10, 26):
        groups = groups_of(entries(), size)
        subjects = [entry.subject for group in groups for entry in group]
        assert len(subjects) == len(set(subjects))
        for group in groups:
            assert not {entry.subject for entry in group} & {entry.to for entry in group}
            assert size in (1, 26) or len(group) == size
            assert size == 1 or len({entry.kind for entry in group}) > 1
            recipe_of(group, "tiny", ())


def test_rows_are_read_as_they_were_written(tmp_path):
    """
    Rows are appended line by line, and a missing file contains none.
    """
    path = tmp_path / "new" / "rows.jsonl"
    both = [row(), row("TIME")]

    for one in both:
        append_row(path, one)

    assert read_rows([path, tmp_path / "none.jsonl"]) == both


def test_a_table_counts_every_concept_alike():
    """
    Figures are means over concepts with Wilson intervals, whatever their numbers of pictures.
    """
    rows = [row(forgotten=((True, True, True, True), (False,)), subjects=("monet", "a cat"))]

    *_, line = table(rows).splitlines()

    low, high = _interval([(True,) * 4, (False,)])
    assert line == (
        f"| tiny | 2 | UCE | all | 0.500 ({low:.2f}–{high:.2f}) | 1.000 (0.34–1.00) | "
        f"1.000 (0.34–1.00) | 0.750 | 1.00% | 0.50 |"
    )
