"""
Edit concepts of the small IF in several forms, and judge them as `loco evaluate` does.

    python -m tests.benchmarks.deepfloyd --leak
    python -m tests.benchmarks.deepfloyd --reach
    python -m tests.benchmarks.deepfloyd --output if.jsonl [--form paper] [--layers windows]
        [--kind style] [--subject snoopy] [--shard 0/2 --threads 1] [--brief]
    python -m tests.benchmarks.deepfloyd --table if.jsonl

`--leak` says how well each token's state tells a caption's subject, the subject's own tokens left
out. `--reach` swaps the prompt of all layers, of what `add_embedding` pools, and of both.
`--layers windows` tries windows of `WIDTH` layers and takes the one that does best on the very
pictures that are counted: what the form could do if its layers were always found.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import torch

from loco_cli.editing.deltas import SolvedEdit, new_weights
from loco_cli.editing.methods import solve
from loco_cli.editing.preserve import preserved_prompts
from loco_cli.encoders.encode import TextEncoder
from loco_cli.evaluating.judge import EvaluationContext, EvaluationPlan, EvaluationRun
from loco_cli.interventions import Run, SwapPrompt
from loco_cli.layers import LayerSet
from loco_cli.models.encoders import encoder_of
from loco_cli.protocol.wordings import Kind
from loco_cli.recipe.record import EditEntry, Recipe
from loco_cli.sampling.sample import sample
from tests.benchmarks.edits import exam_of, line, recipe_of, trials_of
from tests.benchmarks.outcome import (
    Outcome,
    Trial,
    append_outcome,
    base_share,
    kept_shares,
    listing,
    read_outcomes,
    summary,
)
from tests.benchmarks.world import add_options
from tests.deepfloyd.leak import leak_table
from tests.deepfloyd.small_if import FOLDER, load_bench, locate_small_if

WIDTH = 4  # layers of a window: as many as an up block of IF has
# more wordings than `loco` has by default, none of them asked for in an evaluation
TEMPLATES: dict[Kind, tuple[str, ...]] = {
    "style": (
        "{subject}",
        "{subject} style",
        "a painting in the style of {subject}",
        "a picture by {subject}",
        "a painting of a house in the style of {subject}",
        "a painting of a cat in the style of {subject}",
        "a photo of a robot in the style of {subject}",
        "an image of a fish in the style of {subject}",
        "a beautiful painting of a truck in the style of {subject}",
        "a picture of a tree by {subject}",
        "a nice painting of a bird by {subject}",
        "a boat painted by {subject}",
        "a boat, {subject} style",
        "a drawing of snoopy, {subject} style",
        "a painting of a flower, {subject} style",
        "a picture of a bird in the style of {subject}",
    ),
    "object": (
        "{subject}",
        "a photo of {subject}",
        "a picture of {subject}",
        "an image of {subject}",
        "a painting of {subject}",
        "a drawing of {subject}",
        "a nice photo of {subject}",
        "a beautiful picture of {subject}",
        "a small painting of {subject}",
        "a painting of {subject} in the style of monet",
        "a picture of {subject} by picasso",
        "{subject}, hokusai style",
    ),
    "fact": (
        "{subject}",
        "a photo of {subject}",
        "a portrait of {subject}",
        "a picture of {subject}",
        "an image of {subject}",
        "a painting of {subject}",
        "a nice photo of {subject}",
        "a beautiful portrait of {subject}",
    ),
}


@dataclass(frozen=True)
class Form:
    """A way to edit: `Form(("edit.tokens=all",), has_templates=True)`, keys of a recipe to set."""

    settings: tuple[str, ...]
    has_templates: bool = False


_PAPER = ("edit.tokens=last-subject", "preserve=none", "edit.ridge=0.01")
FORMS = {
    "paper": Form(_PAPER),
    "paper pooled": Form((*_PAPER, "edit.pooled=true")),
    "default": Form(()),
    "all": Form(("edit.tokens=all",)),
    "pooled": Form(("edit.tokens=all", "edit.pooled=true")),
    "templates": Form(("edit.tokens=all", "edit.pooled=true"), has_templates=True),
}
SWAPPED = (  # what is asked for, and what it is exchanged for
    ("a painting of a tree in the style of van gogh", "a painting of a tree"),
    ("a painting of a boat in the style of mondrian", "a painting of a boat in the style of monet"),
    ("a photo of a cat", "a photo of a dog"),
    ("a photo of snoopy", "a photo of a car"),
    ("a photo of the british monarch", "a photo of king charles"),
    ("a photo of the german chancellor", "a photo of olaf scholz"),
)
REACH_SEEDS = range(3000, 3008)


def recipe_in(form: Form, entry: EditEntry, model: str, n_seeds: int) -> Recipe:
    """Return the recipe of one edit in a form."""
    if form.has_templates:
        entry = entry.model_copy(update={"source": TEMPLATES[entry.kind]})
    return recipe_of(entry, model, form.settings, n_seeds)


def windows(n_layers: int) -> list[tuple[int, ...]]:
    """Return every other window of `WIDTH` layers."""
    return [tuple(range(start, start + WIDTH)) for start in range(0, n_layers - WIDTH + 1, 2)]


def best_window(
    bench: EvaluationContext, recipe: Recipe, exam: EvaluationPlan, encoder: TextEncoder
) -> tuple[int, ...]:
    """Return the window that forgets most, and of equals makes most of it what it should be."""
    asked = _to_forget(exam)
    found = {}
    for layers in windows(bench.located.spec.n_layers):
        figures = bench.judge(asked, solve(bench.located, recipe, (layers,), encoder)).evaluation
        found[layers] = (figures.forgotten or 0, figures.became or 0)
    return max(found, key=lambda layers: found[layers])


def _to_forget(exam: EvaluationPlan) -> EvaluationPlan:
    return replace(exam, questions=tuple(q for q in exam.questions if q.edit is not None))


def measure(
    bench: EvaluationContext,
    encoder: TextEncoder,
    trial: Trial,
    entry: EditEntry,
    form: Form,
    *,
    is_brief: bool = False,
) -> Outcome:
    """Return the outcome of one edit; a brief one leaves out the concepts to keep."""
    started, located = time.monotonic(), bench.located
    recipe = recipe_in(form, entry, str(located.path), trial.n_seeds)
    exam = exam_of(located.spec, recipe, is_choosing=trial.is_choosing)
    if is_brief:
        exam = _to_forget(exam)
    if trial.where == "windows":
        layers = best_window(bench, recipe, exam, encoder)
    elif trial.where == "all":
        layers = tuple(range(located.spec.n_layers))
    else:
        layers = LayerSet.parse(trial.where)
    solved = solve(located, recipe, (layers,), encoder)
    return _outcome(bench, trial, layers, recipe, solved, bench.judge(exam, solved), started)


def _outcome(
    bench: EvaluationContext,
    trial: Trial,
    layers: tuple[int, ...],
    recipe: Recipe,
    solved: SolvedEdit,
    judged: EvaluationRun,
    started: float,
) -> Outcome:
    located = bench.located
    inside, outside = kept_shares(judged, preserved_prompts(located.spec, recipe, solved.preserved))
    return Outcome(
        trial=trial,
        layers=layers,
        effect=None,
        ridge=solved.records[0].ridge or 0.0,
        moved=max(edit.relative_change for _, _, edit in new_weights(located, solved)),
        base=base_share(judged.pictures),
        **judged.evaluation.figures,
        kept_preserved=inside,
        kept_others=outside,
        seconds=round(time.monotonic() - started, 1),
    )


def reach(bench: EvaluationContext, source: str, target: str) -> dict[str, float]:
    """
    Return the share of pictures judged as `target` if some parts read it instead of `source`.

    `layers` reads the target in all layers, `pooled` in what `add_embedding` pools, `both` in both.
    """
    layers = tuple(range(bench.located.spec.n_layers))
    swaps = {
        "neither": (source, None),
        "layers": (source, SwapPrompt(layers, target)),
        "pooled": (target, SwapPrompt(layers, source)),
        "both": (target, None),
    }
    found = {}
    for name, (prompt, swap) in swaps.items():
        runs = [Run(prompt, seed, swap) for seed in REACH_SEEDS]
        images = torch.stack(list(_draw(bench, runs)))
        called = bench.scorers.judge.best_label(images, [source, target])
        found[name] = fmean(called)
    return found


def _draw(bench: EvaluationContext, runs: Sequence[Run]) -> list[torch.Tensor]:
    spec = bench.located.spec
    steps, guidance, batch_size = spec.steps, spec.guidance, bench.batch_size
    return list(sample(bench.pipeline, runs, steps=steps, guidance=guidance, batch_size=batch_size))


def main(arguments: list[str] | None = None) -> None:
    """Measure what is not measured yet, a line for each edit; or print tables of what is."""
    args = parser().parse_args(arguments)
    if args.table:
        outcomes = read_outcomes(args.table)
        print(f"{summary(outcomes)}\n\n{listing(outcomes)}")
        return
    if args.threads:
        torch.set_num_threads(args.threads)
    located = locate_small_if(args.folder)
    if args.leak:
        print(leak_table(encoder_of(located)))
        return
    bench, encoder = load_bench(located), encoder_of(located)
    if args.reach:
        for source, target in SWAPPED:
            shares = ", ".join(f"{k} {v:.2f}" for k, v in reach(bench, source, target).items())
            print(f"{source} → {target}: {shares}", flush=True)
        return
    done = {one.trial for one in read_outcomes([args.output] if args.output else [])}
    for trial, entry in trials_of(args, "small IF", args.form or FORMS):
        if trial in done:
            continue
        form = FORMS[trial.form]
        outcome = measure(bench, encoder, trial, entry, form, is_brief=args.brief)
        print(line(outcome), flush=True)
        if args.output:
            append_outcome(args.output, outcome)


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(made)
    made.add_argument("--folder", type=Path, default=FOLDER, help="where the small IF is")
    made.add_argument("--form", action="append", choices=list(FORMS), help="repeatable")
    made.add_argument("--layers", default="all", help="all, windows, or a list such as 1-3,10")
    made.add_argument("--seeds", type=int, default=4)
    made.add_argument("--brief", action="store_true", help="ask nothing of what is to be kept")
    made.add_argument("--choosing", action="store_true", help="ask what `evaluate` does not ask")
    made.add_argument("--output", type=Path, help="a file of JSON lines to add to")
    made.add_argument("--table", type=Path, nargs="+", help="print what these files hold")
    made.add_argument("--leak", action="store_true", help="what each token tells of the subject")
    made.add_argument("--reach", action="store_true", help="what layers and pooling each decide")
    return made


if __name__ == "__main__":
    main()
