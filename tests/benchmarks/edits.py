"""
Edit every concept of the world in memory, and judge each edit as `loco evaluate` does.

    python -m tests.benchmarks.edits --output edits.jsonl [--model tiny-plain] [--form paper]
        [--layers key | found | width-2 | set | 8-9] [--localizations DIR] [--shard 0/2 --threads 1]
    python -m tests.benchmarks.edits --choosing --output choosing.jsonl \\
        --form default --form edit.ridge=0.1x --form "edit.ridge=1x preserve=none"
    python -m tests.benchmarks.edits --table edits.jsonl [--beside]

A form is a name of `FORMS`, or recipe keys to set, or both; `--set` sets a key in all of them.
What `--output` holds already is not measured again. `--choosing` asks less than `loco evaluate`,
in other words and with other seeds, so that what was chosen by it can be judged by the rest.
`--beside` puts all choices of layers of a concept in one row: windows beside sets.
"""

import argparse
import json
import shlex
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch

from loco_cli.editing.deltas import new_weights
from loco_cli.editing.methods import solve
from loco_cli.editing.preserve import all_names, preserved_prompts
from loco_cli.encoders.encode import TextEncoder
from loco_cli.evaluating.judge import EvaluationContext, EvaluationPlan, EvaluationRun
from loco_cli.evaluating.questions import Question, _kept_concepts, _labels_of
from loco_cli.families.spec import ModelSpec
from loco_cli.layers import LayerSet
from loco_cli.localization import Localization
from loco_cli.localizing.runs import SearchContext
from loco_cli.models.encoders import encoder_of
from loco_cli.models.locate import locate
from loco_cli.models.session import RunOptions
from loco_cli.protocol.wordings import Kind, fill
from loco_cli.recipe.load import Override, _slug, load_recipe
from loco_cli.recipe.record import EditEntry, LocalizeSettings, Recipe
from loco_cli.report.sheet import render_evaluation_sheet
from tests.benchmarks.answer_key import key_of, localization_of
from tests.benchmarks.outcome import (
    FIGURES,
    Outcome,
    Trial,
    append_outcome,
    base_share,
    beside,
    kept_shares,
    listing,
    read_outcomes,
    summary,
)
from tests.benchmarks.world import add_options, chosen_entries

FORMS = {
    "default": (),
    "paper": ("edit.tokens=last-subject", "preserve=none", "edit.ridge=0.01"),
}
# other words than those that localize, edit and evaluate
CHOOSING: dict[Kind, tuple[str, ...]] = {
    "style": (
        "a painting of a truck in the style of {subject}",
        "a picture of a fish by {subject}",
    ),
    "object": ("a nice photo of {subject}", "a drawing of {subject}"),
    "fact": ("a nice photo of {subject}", "an image of {subject}"),
}
FIRST_CHOOSING_SEED = 500


def settings_of(form: str) -> tuple[str, ...]:
    """Return the recipe keys that a form sets: `"paper edit.ridge=1x"` sets four."""
    words = shlex.split(form)
    return tuple(key for word in words for key in FORMS.get(word, (word,)))


def recipe_of(entry: EditEntry, model: str, settings: tuple[str, ...], n_seeds: int) -> Recipe:
    """Return the recipe of one edit with some keys set."""
    document = {
        "loco": 1,
        "model": model,
        "edits": [entry.model_dump(mode="json", exclude_unset=True)],
        "evaluate": {"seeds": n_seeds},
    }
    overrides = [Override.parse(setting) for setting in settings]
    return load_recipe(json.dumps(document), f"{entry.subject} {entry.kind}", overrides)


def exam_of(spec: ModelSpec, recipe: Recipe, *, is_choosing: bool) -> EvaluationPlan:
    """Return the prompts of `loco evaluate`, or a smaller, separate set for choosing a form."""
    exam = EvaluationPlan.of(spec, recipe)
    if not is_choosing:
        return exam
    (concept,) = recipe.concepts
    asked = []
    for template in CHOOSING[concept.kind]:
        prompt = fill(template, "subject", concept.subject)
        labels = _labels_of(
            spec, recipe, concept.kind, prompt, template, all_names(concept), concept
        )
        asked.append(Question(prompt, concept.subject, concept.kind, 0, labels))
    for index, (kind, name) in enumerate(_kept_concepts(spec, recipe)):
        template = CHOOSING[kind][index % 2]
        prompt = fill(template, "subject", name)
        labels = _labels_of(spec, recipe, kind, prompt, template, (name,))
        asked.append(Question(prompt, name, kind, None, labels))
    seeds = tuple(range(FIRST_CHOOSING_SEED, FIRST_CHOOSING_SEED + len(exam.seeds)))
    return replace(exam, questions=tuple(asked), seeds=seeds)


def layers_for(
    bench: EvaluationContext, entry: EditEntry, where: str, folder: Path | None, n_seeds: int
) -> tuple[tuple[int, ...], Localization | None]:
    """Return the layers to edit: the key's, those named, or those that a localization found."""
    if where == "key":
        return tuple(range(*key_of(bench.located.name)[entry.kind])), None
    is_width = where.startswith("width-")
    if where not in ("found", "set") and not is_width:
        return LayerSet.parse(where), None
    sweeping = SearchContext(bench.located, bench.pipeline, bench.scorers.scorer, bench.batch_size)
    settings = LocalizeSettings(seeds=n_seeds, window="set" if where == "set" else None)
    if is_width:
        settings = settings.model_copy(update={"width": int(where.removeprefix("width-"))})
    kept = folder / {"set": "sets", "found": "."}.get(where, where) if folder else None
    found = localization_of(sweeping, entry, settings, kept)
    return found.layer_set, found


def measure(
    bench: EvaluationContext,
    encoder: TextEncoder,
    trial: Trial,
    entry: EditEntry,
    args: argparse.Namespace,
) -> tuple[Outcome, EvaluationRun]:
    """Return the outcome of one edit and its pictures."""
    started, located = time.monotonic(), bench.located
    recipe = recipe_of(entry, located.name, settings_of(trial.form), trial.n_seeds)
    layers, found = layers_for(bench, entry, trial.where, args.localizations, args.localize_seeds)
    solved = solve(located, recipe, (layers,), encoder)
    judged = bench.judge(exam_of(located.spec, recipe, is_choosing=trial.is_choosing), solved)
    preserved = preserved_prompts(located.spec, recipe, solved.preserved)
    inside, outside = kept_shares(judged, preserved)
    outcome = Outcome(
        trial=trial,
        layers=layers,
        effect=found.effect if found else None,
        ridge=solved.records[0].ridge or 0.0,
        moved=max(edit.relative_change for _, _, edit in new_weights(located, solved)),
        base=base_share(judged.pictures),
        **judged.evaluation.figures,
        kept_preserved=inside,
        kept_others=outside,
        seconds=round(time.monotonic() - started, 1),
    )
    return outcome, judged


def trials_of(
    args: argparse.Namespace, model: str, forms: Iterable[str]
) -> list[tuple[Trial, EditEntry]]:
    """Return the trials that the options select, concept by concept in every form."""
    return [
        (
            Trial(
                model=model,
                form=form,
                where=args.layers,
                kind=entry.kind,
                subject=entry.subject,
                to=entry.concept.to,
                n_seeds=args.seeds,
                is_choosing=args.choosing,
            ),
            entry,
        )
        for entry in chosen_entries(args)
        for form in forms
    ]


def main(arguments: list[str] | None = None) -> None:
    """Measure what is not measured yet, a line for each edit; or print tables of what is."""
    args = parser().parse_args(arguments)
    if args.table:
        outcomes = read_outcomes(args.table)
        parts = [beside(outcomes)] if args.beside else [summary(outcomes), listing(outcomes)]
        print("\n\n".join(parts))
        return
    if args.threads:
        torch.set_num_threads(args.threads)
    done = {one.trial for one in read_outcomes([args.output] if args.output else [])}
    forms = [" ".join((form, *args.set)) for form in args.form or FORMS]
    todo = [one for one in trials_of(args, args.model, forms) if one[0] not in done]
    if not todo:
        return
    located = locate(args.model)
    bench, encoder = EvaluationContext.load(located, RunOptions()), encoder_of(located)
    for trial, entry in todo:
        outcome, judged = measure(bench, encoder, trial, entry, args)
        print(line(outcome), flush=True)
        if args.output:
            append_outcome(args.output, outcome)
        if args.sheets:
            args.sheets.mkdir(parents=True, exist_ok=True)
            name = _slug(" ".join((trial.model, trial.form, trial.where, trial.subject)))
            sheet = render_evaluation_sheet(judged.evaluation, judged.pictures)
            (args.sheets / f"{name}.png").write_bytes(sheet)


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(made)
    made.add_argument("--form", action="append", help="default, paper, or keys to set; repeatable")
    made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    made.add_argument("--layers", default="found", help="key, found, width-2, set, or 1-3,10")
    made.add_argument("--localizations", type=Path, help="the --output of answer_key")
    made.add_argument("--localize-seeds", type=int, default=4, help="those of --localizations")
    made.add_argument("--seeds", type=int, default=4)
    made.add_argument("--choosing", action="store_true", help="ask what `evaluate` does not ask")
    made.add_argument("--output", type=Path, help="a file of JSON lines to add to")
    made.add_argument("--sheets", type=Path, help="a folder for a sheet of each edit's pictures")
    made.add_argument("--table", type=Path, nargs="+", help="print what these files hold")
    made.add_argument("--beside", action="store_true", help="one row for each concept")
    return made


def line(one: Outcome) -> str:
    """Return the printed line of one edit."""
    trial = one.trial
    shares = ["–" if getattr(one, f) is None else f"{getattr(one, f):.2f}" for f in FIGURES]
    return (
        f"{trial.form:<24}{trial.kind:<7}{trial.subject:<36}{list(one.layers)!s:<10}"
        f"{'  '.join(f'{share:>4}' for share in shares)}"
        f"  moved {one.moved:5.2f}  {one.seconds:5.0f} s"
    )


if __name__ == "__main__":
    main()
