"""
All methods of editing, ours and published ones, on the same concepts, pictures and judge.

    python -m tests.benchmarks.methods --output methods.jsonl --localizations DIR [--model tiny]
        [--method "LocoEdit"] [--together 1] [--seeds 4] [--shard 0/2 --threads 1]
    python -m tests.benchmarks.methods --table methods.jsonl

Each edit is made in memory and judged in `loco evaluate`'s words and seeds, which choose nothing:
what to forget in every wording and seed, what to keep once for each concept. `--together 10` edits
ten concepts of mixed kinds in one solve. DIR is the --output of `answer_key`, whose layers are
"found"; what `--output` holds already is not measured again.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from loco_cli.checkpoint.reader import read_tensor
from loco_cli.editing.deltas import NewWeight, SolvedEdit, new_weights
from loco_cli.editing.methods import solve
from loco_cli.editing.model_edit import ModelEdit
from loco_cli.encoders.encode import CheckpointEncoder
from loco_cli.evaluating.choice import _measure_strength
from loco_cli.evaluating.judge import EvaluationContext, EvaluationPlan
from loco_cli.evaluating.questions import Question
from loco_cli.families.spec import ModelSpec
from loco_cli.layers import LayerSet
from loco_cli.localization import Localization, LocalizationRun
from loco_cli.localizing.runs import SearchContext
from loco_cli.models.encoders import encoder_of
from loco_cli.models.locate import LocatedModel, locate
from loco_cli.models.session import RunOptions
from loco_cli.recipe.load import Override, load_recipe
from loco_cli.recipe.record import EditEntry, Recipe
from tests.benchmarks import published
from tests.benchmarks.answer_key import known_localization
from tests.benchmarks.marks import Measured, append_row, kept_marks, marks_of, read_rows, table
from tests.benchmarks.world import KINDS, add_options, entries, groups_of, shard


@dataclass(frozen=True)
class Method:
    """
    One way to edit: which layers, and our recipe keys or another's formula.

    `layers` is "found" by a localization, "all", a "random" range as wide as the one found and
    apart from it, or "none" for a method that edits no layers.
    """

    layers: str
    settings: tuple[str, ...] = ()
    formula: published.Formula | None = None


METHODS: Mapping[str, Method] = {
    "LocoEdit": Method("found"),
    "LocoEdit, fixed": Method("found", ("edit.strength=fixed",)),
    "LocoEdit, tokens: last-subject": Method("found", ("edit.tokens=last-subject",)),
    "LocoEdit, tokens: all": Method("found", ("edit.tokens=all",)),
    "LocoEdit, all layers": Method("all"),
    "LocoEdit, a random range": Method("random"),
    "Diff-QuickFix": Method("none", ("edit.method=diffquickfix",)),
    "neurons, N = 8": Method("found", ("edit.method=neurons", "edit.neurons=8")),
    "neurons, N = 16": Method("found", ("edit.method=neurons", "edit.neurons=16")),
    "neurons, N = 32": Method("found", ("edit.method=neurons", "edit.neurons=32")),
    "neurons, N = 48": Method("found", ("edit.method=neurons", "edit.neurons=48")),
    "LocoEdit as released": Method("found", formula=published.LOCOEDIT),
    "TIME": Method("all", formula=published.TIME),
    "UCE": Method("all", formula=published.UCE),
}


@dataclass(frozen=True)
class Editing:
    """A located model with its text encoders and localizations."""

    located: LocatedModel
    encoder: CheckpointEncoder
    localizations: Path

    def chosen(
        self, bench: EvaluationContext, method: Method, group: Sequence[EditEntry], recipe: Recipe
    ) -> ModelEdit:
        """Return layers and strength for some concepts, by pictures where the method asks so."""
        layers_of = tuple(LayerSet(self.layers(method, entry)) for entry in group)
        if not recipe.edit.is_measured:
            return ModelEdit(self.located, recipe, layers_of)
        found = tuple(LocalizationRun(self.localization(entry)) for entry in group)
        drawing = SearchContext(
            self.located, bench.pipeline, bench.scorers.scorer, bench.batch_size
        )
        return _measure_strength(drawing, ModelEdit(self.located, recipe, layers_of, found))

    def solved(self, method: Method, edit: ModelEdit) -> SolvedEdit:
        """Return the edit of some concepts by a method."""
        asked = (self.located, edit.solved_recipe, edit.layers_of, self.encoder)
        return published.solve(method.formula, *asked) if method.formula else solve(*asked)

    def localization(self, entry: EditEntry) -> Localization:
        """Return the localization of a concept."""
        found = known_localization(self.localizations, self.located.name, entry)
        assert found, f"{self.localizations} holds no localization of {entry.subject}"
        return found

    def layers(self, method: Method, entry: EditEntry) -> tuple[int, ...]:
        """Return the layers to edit for a concept."""
        n_layers = self.located.spec.n_layers
        if method.layers == "none":
            return ()
        if method.layers == "all":
            return tuple(range(n_layers))
        found = self.localization(entry)
        if method.layers == "found":
            return found.layer_set
        width = len(found.layer_set)
        apart = [
            begin
            for begin in range(n_layers - width + 1)
            if not set(range(begin, begin + width)) & set(found.layer_set)
        ]
        begin = random.Random(entry.subject).choice(apart)
        return tuple(range(begin, begin + width))

    def share_changed(self, weights: Sequence[NewWeight]) -> float:
        """Return the share of the UNet's and the text encoders' numbers that an edit changes."""
        checkpoint = self.located.checkpoint
        parts = ("unet", *(one.component for one in self.located.spec.context.encoders))
        n_all = sum(
            math.prod(slots[0].canonical_shape)
            for (component, _), slots in checkpoint.slots_by_name.items()
            if component in parts
        )
        n_changed = sum(int((read_tensor(slot) != new).sum()) for slot, new, _ in weights)
        return n_changed / n_all


def recipe_of(group: Sequence[EditEntry], model: str, settings: Sequence[str]) -> Recipe:
    """Return the recipe of some edits together, with some keys set."""
    edits = [entry.model_dump(mode="json", exclude_unset=True) for entry in group]
    document = {"loco": 1, "model": model, "edits": edits}
    return load_recipe(json.dumps(document), "methods", [Override.parse(one) for one in settings])


def exams_of(
    spec: ModelSpec, recipe: Recipe, n_seeds: int
) -> tuple[EvaluationPlan, EvaluationPlan]:
    """
    Return the questions about forgotten concepts, in all wordings and seeds, and about kept ones.

    The latter asks every other concept once: they take turns in wordings, edits in which half and
    in seeds.
    """
    exam = EvaluationPlan.of(spec, recipe)
    seeds = tuple(exam.seeds[0] + i for i in range(n_seeds))
    forget = tuple(one for one in exam.questions if one.edit is not None)
    asked: dict[str, list[Question]] = {}
    for one in exam.questions:
        if one.edit is None:
            asked.setdefault(one.concept, []).append(one)
    turn = random.Random(recipe.edits[0].subject)
    every = list(asked.values())[turn.choice((0, 1)) :: 2]
    keep = tuple(wordings[i % len(wordings)] for i, wordings in enumerate(every))
    seed = turn.choice(seeds)
    return replace(exam, questions=forget, seeds=seeds), replace(
        exam, questions=keep, seeds=(seed,)
    )


def measure(
    bench: EvaluationContext, editing: Editing, name: str, group: Sequence[EditEntry], n_seeds: int
) -> Measured:
    """Return the measured row of one edit."""
    located, method = bench.located, METHODS[name]
    recipe = recipe_of(group, located.name, method.settings)
    started = time.monotonic()
    edit = editing.chosen(bench, method, group, recipe)
    solved = editing.solved(method, edit)
    weights = new_weights(located, solved)
    seconds = time.monotonic() - started
    forget, keep = exams_of(located.spec, recipe, n_seeds)
    return Measured(
        model=located.name,
        method=name,
        subjects=tuple(entry.subject for entry in group),
        kinds=tuple(entry.kind for entry in group),
        n_seeds=n_seeds,
        layers=edit.layers_of,
        share_changed=editing.share_changed(weights),
        seconds=round(seconds, 3),
        **marks_of(forget, bench.judge(forget, solved)),
        kept=kept_marks(keep, bench.judge(keep, solved)),
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure what is not measured yet, a line for each edit; or print tables of what is."""
    args = parser().parse_args(arguments)
    if args.table:
        print(table(read_rows(args.table)))
        return
    if args.threads:
        torch.set_num_threads(args.threads)
    located = locate(args.model)
    editing = Editing(located, encoder_of(located), args.localizations)
    bench = EvaluationContext.load(located, RunOptions())
    done = {(row.method, row.subjects, row.n_seeds) for row in read_rows([args.output])}
    for n_together in args.together or [1]:
        for group in shard(args, groups_of(entries(args.kind or KINDS, args.subject), n_together)):
            for name in args.method or METHODS:
                subjects = tuple(entry.subject for entry in group)
                if (name, subjects, args.seeds) in done:
                    continue
                row = measure(bench, editing, name, group, args.seeds)
                append_row(args.output, row)
                print(row.line(), flush=True)


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(made)
    made.add_argument("--method", action="append", choices=METHODS)
    made.add_argument("--together", action="append", type=int, help="edits in one solve")
    made.add_argument("--localizations", type=Path, help="the --output of answer_key")
    made.add_argument("--seeds", type=int, default=4)
    made.add_argument("--output", type=Path, help="a file of JSON lines to add to")
    made.add_argument("--table", type=Path, nargs="+", help="print what these files hold")
    return made


if __name__ == "__main__":
    main()
