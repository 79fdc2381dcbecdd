"""Causal tracing of every concept of a recipe: plan the runs, draw, score, write down."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loco_cli.checkpoint.staging import write_folder
from loco_cli.commands.plans import LOCALIZE_FILES
from loco_cli.errors import MachineError
from loco_cli.events import SILENT, Events
from loco_cli.families import registry
from loco_cli.interventions import TracedRun
from loco_cli.localization import ConceptName, ModelName
from loco_cli.localizing import causal_trace
from loco_cli.localizing.causal_trace import TraceTrial
from loco_cli.localizing.runs import SearchContext
from loco_cli.localizing.states import check_trace, component_of, level_of, trials_of
from loco_cli.models.locate import locate
from loco_cli.models.session import RunOptions, load_model, load_scorer
from loco_cli.models.tokenizers import check_subjects
from loco_cli.outputs.guards import check_folder
from loco_cli.protocol.seeds import localize_seeds
from loco_cli.recipe import EditEntry, LocalizeSettings, Recipe
from loco_cli.report.trace import render_trace_report, render_trace_sheet, state_words
from loco_cli.sampling.sample import choose_batch_size, count_steps, to_png
from loco_cli.sampling.traced import sample_traced
from loco_cli.trace import Trace, TracedStrip, TraceRun, Traces, TraceScore, mean_and_errors

ENOUGH = 0.5  # a share of what the noise takes under which no state is named the concept's


@dataclass(frozen=True)
class TraceResult:
    """The traces of a recipe, and the files that were written."""

    traces: tuple[Trace, ...]
    files: tuple[Path, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the document: that of the only trace, or of all."""
        if len(self.traces) == 1:
            return self.traces[0].to_json()
        return Traces(traces=self.traces).to_json()


def run(
    recipe: Recipe,
    machine: RunOptions,
    output: Path | None = None,
    *,
    force: bool = False,
    command: Sequence[str] = (),
    events: Events = SILENT,
) -> TraceResult:
    """Return the traces of a recipe; with `output` write them, sheet and report there."""
    machine.team.check_alone("causal tracing")
    located = locate(recipe.model)
    check_trace(located, recipe.localize)
    check_subjects(located, (pair for entry in recipe.edits for pair in entry.localize_pairs))
    if output:
        check_folder(output, LOCALIZE_FILES, located.checkpoint, force=force)
    scorer = load_scorer(located, machine)
    pipeline = load_model(located, machine, events)
    bench = SearchContext(
        located, pipeline, scorer, choose_batch_size(machine.batch_size, pipeline), events
    )
    traced = tuple(trace(bench, entry, recipe.localize) for entry in recipe.edits)
    found = TraceResult(tuple(one.trace for one in traced))
    if not output:
        return found
    document = json.dumps(found.to_json(), indent=2) + "\n"
    pages = (document, render_trace_sheet(traced), render_trace_report(traced, command=command))
    files = write_folder(output, dict(zip(LOCALIZE_FILES, pages, strict=True)))
    return TraceResult(found.traces, files)


def trace(bench: SearchContext, entry: EditEntry, settings: LocalizeSettings) -> TraceRun:
    """Return the trace of one concept, with pictures of the first seed."""
    started = time.monotonic()
    trials = trials_of(bench.located, entry, settings)
    steps, guidance = bench.located.spec.sampling(settings.steps, settings.guidance)
    drawn = _draw(bench, trials, entry.subject, (steps, guidance))
    document = _document(bench, entry, settings, trials, drawn)
    seconds = round(time.monotonic() - started, 3)
    document = document.model_copy(update={"seconds": seconds})
    return TraceRun(document, _strips(trials, drawn, document.best()))


def conclusion(found: Trace) -> tuple[str, ...]:
    """Return what a trace says, in sentences; one that found nothing says so."""
    span = f"{found.clean_score:.3f} to {found.corrupted_score:.3f}"
    if not found.is_harmed:
        return (
            f"noise on the subject hardly changes the score ({span}): raise `--noise`, or the "
            "model, or the scorer, does not know this concept",
        )
    best = found.best()
    share = found.share(best) or 0.0
    gives = f"gives back {share:.0%} of what the noise takes ({span})"
    details = (f"it is {best.component} {best.module_path}", *_among_cross_attentions(found))
    if share < ENOUGH:
        first = f"no single state holds the concept: the best, {state_words(best)}, {gives}"
        return (first, *details)
    return (f"{state_words(best)} {gives}", *details)


def _among_cross_attentions(found: Trace) -> tuple[str, ...]:
    """Return which of the UNet's cross-attentions, where an edit is made, restores most."""
    crossed = [one for one in found.ranked() if one.kind == "cross-attention"]
    # a resnet hands on the whole stream, so do residual attentions: some restore by themselves
    if not crossed or registry.family(found.model.family).has_residual_attention:
        return ()
    best = crossed[0]
    return (
        f"of the cross-attentions, where edits are made, layer {best.index} gives back most: "
        f"{found.share(best) or 0.0:.0%}, {best.module_path}",
    )


@dataclass(frozen=True)
class _Drawn:
    """The score of every run, the pictures to show, and how many samples the UNet took."""

    score_of: dict[TracedRun, float]
    picture_of: dict[TracedRun, bytes]
    n_evaluations: int


def _draw(
    bench: SearchContext, trials: Sequence[TraceTrial], subject: str, sampling: tuple[int, float]
) -> _Drawn:
    """Return what came of every run, each drawn once."""
    steps, guidance = sampling
    n_steps = count_steps(bench.pipeline, steps)
    n_runs = len({trial.run for trial in trials})
    drawn, n_samples = _Drawn({}, {}, 0), 0
    tick = bench.events.ticker(f"tracing {subject}", n_runs * n_steps)
    for batch in causal_trace.batches_of(trials, bench.batch_size):
        images = sample_traced(bench.pipeline, batch, steps=steps, guidance=guidance, tick=tick)
        scores = bench.scorer.scores(images, [run.prompt for run in batch.runs])
        n_samples += len(batch.drawn)
        for run, image, score in zip(batch.runs, images, scores, strict=True):
            if score != score:
                raise MachineError(
                    f"a picture of `{run.prompt}` came out as no numbers", "try `--dtype float32`"
                )
            drawn.score_of[run] = score
            if run.seed == 0:
                drawn.picture_of[run] = to_png(image)
    n_evaluations = n_samples * n_steps * (2 if guidance > 1 else 1)
    return _Drawn(drawn.score_of, drawn.picture_of, n_evaluations)


def _document(
    bench: SearchContext,
    entry: EditEntry,
    settings: LocalizeSettings,
    trials: Sequence[TraceTrial],
    drawn: _Drawn,
) -> Trace:
    concept, located = entry.concept, bench.located
    steps, guidance = located.spec.sampling(settings.steps, settings.guidance)
    clean, _, clean_error = mean_and_errors(
        [drawn.score_of[run] for run in causal_trace.clean_runs(trials)]
    )
    corrupted, _, corrupted_error = mean_and_errors(
        [drawn.score_of[run] for run in causal_trace.corrupted_runs(trials)]
    )
    return Trace(
        model=ModelName(name=located.name, family=located.spec.family.name),
        concept=ConceptName(kind=concept.kind, subject=concept.subject, to=concept.to),
        component=component_of(settings),
        noise=level_of(settings),
        scores=causal_trace.rank(trials, drawn.score_of),
        clean_score=clean,
        clean_stderr=clean_error,
        corrupted_score=corrupted,
        corrupted_stderr=corrupted_error,
        prompts=tuple(pair.source for pair in entry.localize_pairs),
        seeds=localize_seeds(settings.seeds),
        steps=steps,
        guidance=guidance,
        scorer=bench.scorer.name,
        unet_evaluations=drawn.n_evaluations,
        seconds=0.0,
    )


def _strips(
    trials: Sequence[TraceTrial], drawn: _Drawn, best: TraceScore
) -> tuple[TracedStrip, ...]:
    """Return clean, corrupted and best restored pictures of every prompt, first seed."""
    chosen = {
        trial.run.prompt: trial.run
        for trial in trials
        if trial.state is not None
        and trial.run.seed == 0
        and trial.state.module_path == best.module_path
        and trial.state.component == best.component
        and (trial.place.label if trial.place else None) == best.token
    }
    strips = []
    clean_and_corrupted = zip(
        causal_trace.clean_runs(trials), causal_trace.corrupted_runs(trials), strict=True
    )
    for clean, corrupted in clean_and_corrupted:
        if clean.seed == 0:
            runs = [clean, corrupted, *filter(None, [chosen.get(clean.prompt)])]
            pictures = tuple((drawn.picture_of[run], drawn.score_of[run]) for run in runs)
            strips.append(TracedStrip(clean.prompt, pictures))
    return tuple(strips)
